/*
 * Images whose tables contradict each other, although every stored count is what the tables ask
 * for: no command goes on from them, no repair makes them look sound, and nothing is changed.
 */
#include "checked.h"
#include "craft.h"
#include <errno.h>
#include <string.h>

enum {
    CLUSTER = 4096,
    DISK = 4 << 20, /* two L1 entries, the second of which is not used */
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* ---- places ----------------------------------------------------------------------------- */

static uint64_t offset_in(const MemFile *file, uint64_t at)
{
    return mem_file_word(file, at) & QC_OFFSET_MASK;
}

static uint64_t active_l1(const MemFile *file)
{
    return mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
}

static uint64_t snapshot_entry(const MemFile *file)
{
    return mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
}

static uint64_t snapshot_l1(const MemFile *file)
{
    return mem_file_word(file, snapshot_entry(file));
}

/* Where the L2 entry of a guest cluster is that was written after the snapshot: both have one. */
static uint64_t entry_in(const MemFile *file, uint64_t l1, unsigned guest)
{
    return offset_in(file, l1) + guest * 8u;
}

/* Store the counts that the tables ask for. All lie in one block. */
static void count_anew(MemFile *file)
{
    uint64_t n, block = first_refcount_block(file);
    g_autofree uint32_t *refs = judge_references(file, &n);
    for (uint64_t c = 0; c < n; c++) {
        be16 count = be16_make((uint16_t)refs[c]);
        memcpy(file->data->data + block + c * 2, &count, sizeof(count));
    }
}

/* ---- what is wrong ---------------------------------------------------------------------- */

static void nothing_in_the_disk(MemFile *file)
{
    mem_file_put_word(file, active_l1(file) + 8, QC_COPIED);
}

static void nothing_in_the_snapshot(MemFile *file)
{
    mem_file_put_word(file, snapshot_l1(file) + 8, QC_COPIED);
}

/* To leave the entry out would lose its cluster, which then counts as one that nobody has. */
static void reserved_bit_in_the_snapshot(MemFile *file)
{
    uint64_t at = entry_in(file, snapshot_l1(file), 30);
    mem_file_put_word(file, at, mem_file_word(file, at) | UINT64_C(1) << 60);
}

static void l2_table_twice(MemFile *file)
{
    uint64_t l1 = active_l1(file), l2 = offset_in(file, l1);
    mem_file_put_word(file, l1, l2);
    mem_file_put_word(file, l1 + 8, l2);
    for (uint64_t at = l2; at < l2 + CLUSTER; at += 8)
        mem_file_put_word(file, at, offset_in(file, at));
    count_anew(file);
}

static void put_guest_over(MemFile *file, uint64_t offset)
{
    mem_file_put_word(file, entry_in(file, active_l1(file), 30), offset);
    count_anew(file);
}

static void data_over_l2_table(MemFile *file)
{
    uint64_t l1 = active_l1(file), l2 = offset_in(file, l1);
    mem_file_put_word(file, l1, l2); /* it is shared now */
    put_guest_over(file, l2);
}

static void data_over_snapshot_l1(MemFile *file)
{
    put_guest_over(file, snapshot_l1(file));
}

static void data_over_refcounts(MemFile *file)
{
    put_guest_over(file, first_refcount_block(file));
}

static void data_over_snapshot_table(MemFile *file)
{
    put_guest_over(file, snapshot_entry(file));
}

static void data_over_header(MemFile *file)
{
    /* Offset 0 is none: a compressed cluster may claim it. */
    mem_file_put_word(file, entry_in(file, active_l1(file), 30), QC_COMPRESSED | 512);
    count_anew(file);
}

/* Where the first entry of the first bitmap's directory is. */
static uint64_t bitmap_entry(const MemFile *file)
{
    QcDiskBitmaps b;
    uint64_t at = sizeof(QcDiskHeader) + sizeof(QcDiskExtension);
    memcpy(&b, file->data->data + at, sizeof(b));
    return be64_get(b.directory_offset);
}

static void bitmap_over_data(MemFile *file)
{
    craft_bitmap(file);
    uint64_t entry = entry_in(file, active_l1(file), 30);
    mem_file_put_word(file, entry, offset_in(file, entry)); /* it is shared now */
    mem_file_put_word(file, mem_file_word(file, bitmap_entry(file)), offset_in(file, entry));
    count_anew(file);
}

/* Its bitmap cannot be found: what that has would count as lost. */
static void bitmap_that_cannot_be_read(MemFile *file)
{
    craft_bitmap(file);
    uint8_t *name_size = file->data->data + bitmap_entry(file) + 18;
    name_size[0] = name_size[1] = 0xff;
}

/* The first cluster that the file does not have at all. */
static uint64_t past_the_end(const MemFile *file)
{
    return (file->data->len + UINT64_C(4095)) / CLUSTER * CLUSTER;
}

static void data_past_the_end(MemFile *file)
{
    uint64_t at = past_the_end(file) + 10 * CLUSTER;
    mem_file_put_word(file, entry_in(file, active_l1(file), 30), at | QC_COPIED);
}

/* It begins with the last sector that there is, of a cluster of its own, and has one more. */
static void data_over_the_end(MemFile *file)
{
    uint64_t end = past_the_end(file), last = end + CLUSTER - 512;
    g_byte_array_set_size(file->data, (guint)end + CLUSTER);
    memset(file->data->data + end, 0, CLUSTER);
    mem_file_put_word(file, entry_in(file, active_l1(file), 30),
                      QC_COMPRESSED | UINT64_C(1) << 58 | last);
}

static void l2_table_past_the_end(MemFile *file)
{
    mem_file_put_word(file, active_l1(file) + 8, past_the_end(file) | QC_COPIED);
}

static void l2_table_over_the_end(MemFile *file)
{
    uint64_t at = past_the_end(file);
    g_byte_array_set_size(file->data, (guint)at + 512);
    memset(file->data->data + at, 0, 512);
    mem_file_put_word(file, active_l1(file) + 8, at | QC_COPIED);
    count_anew(file);
}

static uint64_t refcount_table(const MemFile *file)
{
    return mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
}

static void refcounts_past_the_end(MemFile *file)
{
    mem_file_put_word(file, refcount_table(file) + 8, past_the_end(file));
}

static void refcounts_at_no_cluster(MemFile *file)
{
    mem_file_put_word(file, refcount_table(file) + 8, first_refcount_block(file) + 512);
}

static const struct {
    const char *name;
    void (*spoil)(MemFile *file);
    bool may_rename; /* which has nothing to do with it */
} wrongs[] = {
    {.name = "an L1 entry of nothing", .spoil = nothing_in_the_disk},
    {.name = "an L1 entry of nothing in a snapshot", .spoil = nothing_in_the_snapshot},
    {.name = "a reserved bit in a snapshot", .spoil = reserved_bit_in_the_snapshot},
    {.name = "an L2 table twice", .spoil = l2_table_twice, .may_rename = true},
    {.name = "data over an L2 table", .spoil = data_over_l2_table},
    {.name = "data over a snapshot's L1 table", .spoil = data_over_snapshot_l1},
    {.name = "data over a refcount block", .spoil = data_over_refcounts},
    {.name = "data over the snapshot table", .spoil = data_over_snapshot_table},
    {.name = "data over the header", .spoil = data_over_header},
    {.name = "a bitmap over data", .spoil = bitmap_over_data},
    {.name = "data past the end", .spoil = data_past_the_end},
    {.name = "data over the end", .spoil = data_over_the_end},
    {.name = "an L2 table past the end", .spoil = l2_table_past_the_end},
    {.name = "an L2 table over the end", .spoil = l2_table_over_the_end},
    {.name = "refcounts past the end", .spoil = refcounts_past_the_end},
    {.name = "refcounts at no cluster", .spoil = refcounts_at_no_cluster},
    {.name = "a bitmap that cannot be read", .spoil = bitmap_that_cannot_be_read},
};

static const Step commands[] = {
    {.kind = STEP_TAKE, .name = "two"},
    {.kind = STEP_DELETE},
    {.kind = STEP_RENAME, .name = "eins"},
    {.kind = STEP_REPAIR},
};

static void expect_refusals(MemFile *file, const char *what, bool may_rename)
{
    cr_expect_gt(check(file).errors, 0, "%s: not found", what);
    for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
        if (may_rename && commands[c].kind == STEP_RENAME)
            continue;
        MemFile *copy = mem_file_copy(file);
        bool unknown;
        int err = script_run(copy, &commands[c], &unknown);
        cr_expect_eq(err, -EUCLEAN, "%s: command %d: %d", what, commands[c].kind, err);
        cr_expect(copy->data->len == file->data->len &&
                      !memcmp(copy->data->data, file->data->data, file->data->len),
                  "%s: command %d changed it", what, commands[c].kind);
        qc_file_unref(mem_file(copy));
    }
}

Test(corrupt, nothing_goes_on_from_what_contradicts_itself)
{
    for (size_t i = 0; i < G_N_ELEMENTS(wrongs); i++) {
        MemFile *file = prepared_of_size(&kind, DISK);
        wrongs[i].spoil(file);
        expect_refusals(file, wrongs[i].name, wrongs[i].may_rename);
        qc_file_unref(mem_file(file));
    }
}

/* Five snapshots of what can be counted up to three: no count that wraps is stored. */
Test(corrupt, what_is_referred_to_too_often_cannot_be_counted)
{
    MemFile *file = prepared_of_size(&script_kinds[2], DISK);
    craft_snapshots(file, 5, 6, false);
    expect_refusals(file, "five of three", false);
    qc_file_unref(mem_file(file));
}

/* What 8 bits cannot hold is no 1, though it is what they would have. */
Test(corrupt, a_count_that_has_come_round_is_found)
{
    static const Kind small = {"v3-4k-8bit", 3, 12, 8, false};
    MemFile *file = prepared_of_size(&small, DISK);
    uint64_t l2 = entry_in(file, active_l1(file), 0), data = offset_in(file, l2 + 30 * 8);
    for (unsigned i = 30; i < 30 + 257; i++)
        mem_file_put_word(file, l2 + i * 8, data);
    uint64_t n, block = first_refcount_block(file);
    g_autofree uint32_t *refs = judge_references(file, &n);
    cr_assert_eq(refs[data / CLUSTER], 257);
    for (uint64_t c = 0; c < n; c++)
        file->data->data[block + c] = (uint8_t)refs[c];
    expect_refusals(file, "257 of 255", false);

    for (unsigned i = 30 + 255; i < 30 + 257; i++)
        mem_file_put_word(file, l2 + i * 8, 0);
    file->data->data[block + data / CLUSTER] = 255;
    QcCheck result = check(file);
    cr_expect_eq(result.errors, 0, "as many as there may be: %s", result.first);
    qc_file_unref(mem_file(file));
}

/* A snapshot that has less of an L1 table than its disk needs: the rest is nothing, to be read. */
Test(corrupt, a_snapshot_with_a_short_table_is_read_but_not_gone_back_to)
{
    MemFile *file = prepared_of_size(&kind, DISK);
    g_autoptr(QcView) view = NULL;
    static const uint8_t zeros[CLUSTER];
    uint8_t bytes[CLUSTER];
    bool unknown;
    /* What lies behind the one entry that it has is no entry of it. */
    mem_file_put_word(file, snapshot_l1(file) + 8, mem_file_word(file, snapshot_l1(file)));
    be32 one = be32_make(1);
    memcpy(file->data->data + snapshot_entry(file) + offsetof(QcDiskSnapshot, l1_size), &one,
           sizeof(one));
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_byte_array_append(before, file->data->data, file->data->len);
    cr_expect_eq(-EOPNOTSUPP, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
    cr_expect(before->len == file->data->len &&
              !memcmp(before->data, file->data->data, before->len));

    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    g_autoptr(GError) error = NULL;
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
    cr_expect_eq(-EOPNOTSUPP, qc_snapshot_revert(o.image, 0, NULL, &error));
    cr_expect(strstr(error->message, "larger disk than its L1 table"), "%s", error->message);
    cr_assert_eq(qc_view_size(view), DISK);
    cr_assert_eq(CLUSTER, qc_view_read(view, bytes, CLUSTER, DISK / 2));
    cr_expect_eq(0, memcmp(bytes, zeros, CLUSTER));
    qc_file_unref(mem_file(file));
}

/*
 * The last entry of a snapshot table ends where its name does when the file does, too: a command
 * that puts another behind it puts it where it is looked for.
 */
Test(corrupt, the_padding_of_the_last_entry_may_lack)
{
    static const Step more[] = {
        {.kind = STEP_TAKE, .name = "two"},
        {.kind = STEP_RENAME, .snapshot = 0, .name = "eins"},
    };
    for (size_t c = 0; c < G_N_ELEMENTS(more); c++) {
        MemFile *file = prepared_of_size(&kind, DISK);
        QcDiskSnapshot d;
        uint64_t old = snapshot_entry(file),
                 end = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
        bool unknown;
        memcpy(&d, file->data->data + old, sizeof(d));
        size_t size =
            sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.id_size) + be16_get(d.name_size);
        cr_assert_neq(size % 8, 0);
        g_byte_array_set_size(file->data, (guint)(end + size));
        memcpy(file->data->data + end, file->data->data + old, size);
        mem_file_put_word(file, offsetof(QcDiskHeader, snapshots_offset), end);
        count_anew(file);
        cr_expect_eq(check(file).errors, 0);
        cr_assert_eq(0, script_run(file, &more[c], &unknown));
        g_autofree char *wrong = judge_check(file), *digest = judge_digest(file);
        cr_expect_null(wrong, "%s", wrong);
        cr_assert_not_null(digest);
        cr_expect_not_null(strstr(digest, c == 0 ? "two" : "eins"), "%s", digest);
        cr_expect_eq(check(file).errors, 0);
        qc_file_unref(mem_file(file));
    }
}

/* Instead of one bitmap, so many that their directory is larger than a cluster; they have no data.
 */
static void put_bitmaps(MemFile *file, unsigned n)
{
    enum { ENTRY = 32 };
    QcDiskBitmaps b;
    QcDiskBitmapEntry d;
    size_t at = sizeof(QcDiskHeader) + sizeof(QcDiskExtension);
    uint64_t directory = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
    uint64_t table = directory + (n * ENTRY + CLUSTER - 1) / CLUSTER * CLUSTER;
    uint64_t from = bitmap_entry(file), old = file->data->len, end = table + n * CLUSTER;
    g_byte_array_set_size(file->data, (guint)end);
    memset(file->data->data + old, 0, end - old);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *to = file->data->data + directory + i * ENTRY;
        memcpy(to, file->data->data + from, ENTRY);
        memcpy(&d, to, sizeof(d));
        d.table_offset = be64_make(table + i * CLUSTER);
        memcpy(to, &d, sizeof(d));
        g_snprintf((char *)to + sizeof(d), 8, "b%05u", i);
    }
    memcpy(&b, file->data->data + at, sizeof(b));
    b.nb_bitmaps = be32_make(n);
    b.directory_size = be64_make(n * ENTRY);
    b.directory_offset = be64_make(directory);
    memcpy(file->data->data + at, &b, sizeof(b));
}

/* What is not counted counts as lost, and would be given to somebody else. */
Test(corrupt, a_directory_of_many_bitmaps_is_counted_whole)
{
    MemFile *file = prepared_of_size(&kind, DISK);
    bool unknown;
    craft_bitmap(file);
    put_bitmaps(file, 300); /* 9,600 bytes */
    count_anew(file);
    cr_assert_eq(check(file).errors, 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "two"}, &unknown));
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_DELETE, .snapshot = 1}, &unknown));
        g_autofree char *wrong = judge_check(file);
        cr_expect_null(wrong, "%s", wrong);
    }
    qc_file_unref(mem_file(file));
}

/* QEMU opens no image with two bitmaps of a name, wherever in the directory they are. */
Test(corrupt, two_bitmaps_of_one_name_are_found)
{
    enum { N = 4, NAME_LEN = 7 };
    for (unsigned same = 1; same < N; same++) {
        MemFile *file = prepared_of_size(&kind, DISK);
        bool unknown;
        craft_bitmap(file);
        put_bitmaps(file, N);
        uint8_t *first = file->data->data + bitmap_entry(file);
        uint8_t *other = first + (size_t)same * (sizeof(QcDiskBitmapEntry) + 8);
        memcpy(other + sizeof(QcDiskBitmapEntry), first + sizeof(QcDiskBitmapEntry), NAME_LEN);
        count_anew(file);
        QcCheck found = check(file);
        cr_expect_eq(found.errors, 1);
        cr_expect_not_null(strstr(found.first, "the same name"), "%s", found.first);
        cr_expect_eq(-EUCLEAN, script_run(file, &(Step){.kind = STEP_REPAIR}, &unknown));
        qc_file_unref(mem_file(file));
    }
}
