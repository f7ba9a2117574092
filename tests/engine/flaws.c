/* Images with one flaw: check finds it, and a command mends it in passing, or changes nothing. */
#include "checked.h"
#include "craft.h"
#include "format.h"
#include <errno.h>
#include <string.h>

/* COPIED where a snapshot has the cluster too: the next write of a guest would change both. */
static void flip_copied(MemFile *file, bool in_l1)
{
    static const Step take = {.kind = STEP_TAKE, .name = "shared"};
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    bool unknown;
    if (in_l1) { /* now all L2 tables are shared */
        cr_assert_eq(0, script_run(file, &take, &unknown));
        at = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    } else {
        at = mem_file_word(file, at) & QC_OFFSET_MASK;
    }
    cr_assert_eq(0, mem_file_word(file, at) & QC_COPIED);
    mem_file_put_word(file, at, mem_file_word(file, at) | QC_COPIED);
}

Test(flaws, every_command_sets_the_flags_right)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < 2 * G_N_ELEMENTS(mending); c++) {
            if (script_kinds[i].refcount_bits == 2 && c == 1)
                continue; /* a third snapshot is one too many */
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            flip_copied(file, c % 2);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            cr_expect_eq(0, script_run(file, &mending[c / 2], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

/* Of several, each is counted, and the first is told. */
Test(flaws, all_wrong_flags_of_a_table_are_counted)
{
    MemFile *file = prepared(&script_kinds[1]);
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    for (unsigned i = 0; i < 3; i++)
        mem_file_put_word(file, l2 + i * 8, mem_file_word(file, l2 + i * 8) ^ QC_COPIED);
    mem_file_put_word(file, l1, mem_file_word(file, l1) ^ QC_COPIED);
    QcCheck result = check(file);
    cr_expect_eq(result.errors, 4);
    cr_expect_str_eq(result.first, "entry 0 of the active L1 table has the wrong COPIED flag");
    qc_file_unref(mem_file(file));
}

/* Behind the disk, too: the VM state that a machine has loaded is the snapshot's. */
Test(flaws, every_command_sets_the_flags_of_vm_state_right)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&script_kinds[i]);
            uint32_t entries;
            bool unknown;
            craft_vm_state(file, 0, 3, true);
            memcpy(&entries, file->data->data + offsetof(QcDiskHeader, l1_size), sizeof(entries));
            uint64_t last = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset)) +
                            (GUINT32_FROM_BE(entries) - 1) * 8;
            mem_file_put_word(file, last, mem_file_word(file, last) | QC_COPIED);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

/* QEMU does not open such an image; the bit may be cleared by whoever changes anything. */
Test(flaws, every_command_clears_the_mark_of_a_raw_data_file_that_is_not_there)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            size_t at = offsetof(QcDiskHeader, autoclear_features);
            if (script_kinds[i].version < 3)
                continue;
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            mem_file_put_word(file, at, QC_AUTOCLEAR_RAW);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            MemFile *repaired = mem_file_copy(file);
            cr_expect_eq(0, repair(repaired));
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            cr_expect_eq(0, mem_file_word(file, at));
            expect_clean(file, NULL);
            expect_clean(repaired, NULL);
            qc_file_unref(mem_file(repaired));
            qc_file_unref(mem_file(file));
        }
    }
}

/* Cut the extra data of each snapshot to so many bytes; they move up. */
static void shorten_extra(MemFile *file, uint32_t len)
{
    uint64_t from = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)), to = from;
    be32 n;
    memcpy(&n, file->data->data + offsetof(QcDiskHeader, nb_snapshots), sizeof(n));
    for (uint32_t i = 0; i < be32_get(n); i++) {
        uint8_t *entry = file->data->data + from, *shorter = file->data->data + to;
        QcDiskSnapshot d;
        memcpy(&d, entry, sizeof(d));
        size_t strings = be16_get(d.id_size) + (size_t)be16_get(d.name_size);
        uint32_t had = be32_get(d.extra_data_size);
        memmove(shorter + sizeof(d) + len, entry + sizeof(d) + had, strings);
        d.extra_data_size = be32_make(len);
        memcpy(shorter, &d, sizeof(d));
        from += qc_padded(sizeof(d) + had + strings);
        to += qc_padded(sizeof(d) + len + strings);
    }
}

Test(flaws, every_command_completes_snapshots_without_a_size)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (uint32_t extra = 0; extra <= 16; extra += 8) {
            bool wrong = script_kinds[i].version >= 3 && extra < 16;
            for (size_t c = 0; c <= G_N_ELEMENTS(mending); c++) {
                MemFile *file = prepared(&script_kinds[i]);
                g_autofree char *digest = judge_digest(file);
                bool unknown;
                shorten_extra(file, extra);
                QcCheck before = check(file);
                cr_expect_eq(before.errors, wrong, "%s", before.first);
                if (c < G_N_ELEMENTS(mending))
                    cr_expect_eq(0, script_run(file, &mending[c], &unknown));
                else
                    cr_expect_eq(0, repair(file));
                expect_clean(file, c < G_N_ELEMENTS(mending) ? NULL : digest);
                qc_file_unref(mem_file(file));
            }
        }
    }
}

/* The table grows by more than an entry. */
Test(flaws, many_snapshots_without_a_size_are_completed)
{
    enum { MANY = 200 };
    static const Kind kind = {"v3-4k", 3, 12, 16, false};
    for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
        MemFile *file = prepared(&kind);
        bool unknown;
        craft_snapshots(file, MANY, 8, true);
        shorten_extra(file, 0);
        cr_expect_eq(check(file).errors, MANY);
        cr_expect_eq(0, script_run(file, &mending[c], &unknown));
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* Something is wrong that no command mends, and none makes worse. Frees the file. */
static void expect_left_alone(MemFile *file)
{
    g_autoptr(GByteArray) before = g_byte_array_new();
    bool unknown;
    g_byte_array_append(before, file->data->data, file->data->len);

    QcCheck result = check(file);
    cr_expect_gt(result.errors, 0);
    cr_expect_str_not_empty(result.first);
    for (size_t c = 0; c < G_N_ELEMENTS(mending); c++)
        cr_expect_eq(-EUCLEAN, script_run(file, &mending[c], &unknown), "command %zu", c);
    cr_expect_eq(-EUCLEAN, repair(file));
    cr_expect_eq(before->len, file->data->len);
    cr_expect_eq(0, memcmp(before->data, file->data->data, before->len));
    qc_file_unref(mem_file(file));
}

Test(flaws, broken_tables_are_found_and_left_alone)
{
    MemFile *file = prepared(&script_kinds[4]);
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    mem_file_put_word(file, l1, mem_file_word(file, l1) | 0x100); /* no cluster's offset */
    expect_left_alone(file);
}

Test(flaws, an_l2_table_that_two_entries_have_is_found_and_left_alone)
{
    MemFile *file = prepared(&script_kinds[0]); /* clusters of 512 bytes: ten entries */
    craft_table_twice(file);
    expect_left_alone(file);
}

/* It would be one table that lies over another. */
Test(flaws, an_l1_table_of_two_lengths_is_found_and_left_alone)
{
    MemFile *file = prepared(&script_kinds[0]);
    be32 n;
    craft_snapshots(file, 2, 8, false);
    size_t at = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)) +
                offsetof(QcDiskSnapshot, l1_size);
    memcpy(&n, file->data->data + at, sizeof(n));
    n = be32_make(be32_get(n) + 1);
    memcpy(file->data->data + at, &n, sizeof(n));
    expect_left_alone(file);
}

Test(flaws, broken_entries_of_the_refcount_table_are_found_and_left_alone)
{
    static const uint64_t flips[] = {1, 0x100, 0x200, 0x8000};
    for (size_t i = 0; i < G_N_ELEMENTS(flips); i++) {
        MemFile *file = prepared(&script_kinds[1]); /* 64 KiB clusters */
        uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
        mem_file_put_word(file, table, mem_file_word(file, table) | flips[i]);
        expect_left_alone(file);
    }
}

/* Where the L2 entry of the first guest cluster is; it is compressed. */
static uint64_t compressed_entry(MemFile *file)
{
    craft_compress(file, 0, 1);
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    cr_assert(mem_file_word(file, l2) & QC_COMPRESSED);
    return l2;
}

/* A snapshot's tables stay where they are, so nothing mends this. */
Test(flaws, copied_compressed_clusters_of_snapshots_are_found_and_left_alone)
{
    static const Step take = {.kind = STEP_TAKE, .name = "two"};
    static const Step write = {.kind = STEP_WRITE, .len = 512, .seed = 3};
    bool unknown;
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (unsigned own = 0; own < 2; own++) {
            if (script_kinds[i].refcount_bits == 2)
                continue; /* the snapshots would be too many */
            MemFile *file = prepared(&script_kinds[i]);
            uint64_t entry = compressed_entry(file);
            cr_assert_eq(0, script_run(file, &take, &unknown));
            uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
            entry = mem_file_word(file, l1) & QC_OFFSET_MASK;
            if (own) /* from here on the disk has another table */
                cr_assert_eq(0, script_run(file, &write, &unknown));
            mem_file_put_word(file, entry, mem_file_word(file, entry) | QC_COPIED);
            expect_left_alone(file);
        }
    }
}

Test(flaws, copied_compressed_clusters_of_the_disk_are_mended)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&script_kinds[i]);
            Step own = {.kind = STEP_WRITE, .len = 512, .seed = 3}; /* the table too */
            bool unknown;
            cr_assert_eq(0, script_run(file, &own, &unknown));
            uint64_t entry = compressed_entry(file);
            mem_file_put_word(file, entry, mem_file_word(file, entry) | QC_COPIED);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

Test(flaws, a_compressed_cluster_with_subclusters_is_found_and_left_alone)
{
    static const Kind kind = {"v3-16k-extl2", 3, 14, 16, true};
    MemFile *file = prepared(&kind);
    uint64_t entry = compressed_entry(file);
    g_autofree char *digest = judge_digest(file);
    mem_file_put_word(file, entry + 8, 1);
    g_autofree char *now = judge_digest(file);
    cr_expect_str_eq(now, digest);
    expect_left_alone(file);
}

/* Where a field of the bitmaps extension is. */
static size_t bitmaps_field(const MemFile *file, size_t field)
{
    /* The lower half of this word is header_length. */
    uint32_t extension = (uint32_t)mem_file_word(file, offsetof(QcDiskHeader, refcount_order));
    return extension + sizeof(QcDiskExtension) + field;
}

/* An image of 64 KiB clusters with a bitmap, and where its entry of the directory lies. */
static MemFile *with_bitmap(uint64_t *ret_entry)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    MemFile *file = prepared(&kind);
    craft_bitmap(file);
    QcCheck result = check(file);
    cr_assert_eq(result.errors + result.leaks, 0, "%s", result.first);
    *ret_entry =
        mem_file_word(file, bitmaps_field(file, offsetof(QcDiskBitmaps, directory_offset)));
    return file;
}

/* QEMU does not open an image whose bitmaps it cannot read. */
Test(flaws, broken_entries_of_a_bitmap_table_are_found_and_left_alone)
{
    static const uint64_t flips[] = {0x200, 0x1, 0x2, 0x100, UINT64_C(1) << 56, UINT64_C(1) << 63};
    for (size_t i = 0; i < G_N_ELEMENTS(flips); i++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        uint64_t table = mem_file_word(file, entry + offsetof(QcDiskBitmapEntry, table_offset));
        mem_file_put_word(file, table, mem_file_word(file, table) ^ flips[i]);
        expect_left_alone(file);
    }
}

Test(flaws, broken_entries_of_the_bitmap_directory_are_found_and_left_alone)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {offsetof(QcDiskBitmapEntry, type), 2},
        {offsetof(QcDiskBitmapEntry, granularity_bits), QC_MIN_GRANULARITY_BITS - 1},
        {offsetof(QcDiskBitmapEntry, granularity_bits), QC_MAX_GRANULARITY_BITS + 1},
        {offsetof(QcDiskBitmapEntry, name_size) + 1, 0},
        {offsetof(QcDiskBitmapEntry, name_size), 4},     /* longer than a name may be */
        {offsetof(QcDiskBitmapEntry, name_size) + 1, 9}, /* past the end of the directory */
        {offsetof(QcDiskBitmapEntry, table_offset) + 6, 2},
        {offsetof(QcDiskBitmapEntry, table_size) + 3, 0}, /* its clusters are no leaks */
        {offsetof(QcDiskBitmapEntry, table_size) + 3, 2}, /* more than the disk asks for */
        {offsetof(QcDiskBitmapEntry, flags) + 3, 4},      /* reserved */
        {offsetof(QcDiskBitmapEntry, flags), 0x80},
        {offsetof(QcDiskBitmapEntry, extra_data_size) + 3, 8},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        file->data->data[entry + wrong[i].at] = wrong[i].value;
        expect_left_alone(file);
    }
}

Test(flaws, a_bitmaps_extension_that_is_not_understood_is_found_and_left_alone)
{
    uint64_t entry;
    MemFile *file = with_bitmap(&entry);
    file->data->data[bitmaps_field(file, offsetof(QcDiskBitmaps, reserved))] = 1;
    expect_left_alone(file);

    file = with_bitmap(&entry); /* behind the one entry there is more */
    size_t at = bitmaps_field(file, offsetof(QcDiskBitmaps, directory_size));
    mem_file_put_word(file, at, mem_file_word(file, at) + 8);
    expect_left_alone(file);
}

/* Fields of the header, at these places, that say of a table that it lies past the end. */
Test(flaws, an_image_whose_tables_lie_past_the_end_is_not_opened)
{
    enum { L1, SNAPSHOTS, BITMAPS, BITMAPS_SIZE, N_BITMAPS, ALL };
    for (unsigned i = 0; i < ALL; i++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        const size_t at[ALL] = {
            [L1] = offsetof(QcDiskHeader, l1_table_offset),
            [SNAPSHOTS] = offsetof(QcDiskHeader, snapshots_offset),
            [BITMAPS] = bitmaps_field(file, offsetof(QcDiskBitmaps, directory_offset)),
            [BITMAPS_SIZE] = bitmaps_field(file, offsetof(QcDiskBitmaps, directory_size)),
            [N_BITMAPS] = bitmaps_field(file, offsetof(QcDiskBitmaps, nb_bitmaps)),
        };
        const uint64_t far = UINT64_C(1) << 40;
        const uint64_t values[ALL] = {far, far, far, 64 << 20, UINT64_C(2) << 32};
        g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
        g_autoptr(QcImage) image = NULL;
        mem_file_put_word(file, at[i], values[i]);
        int err = qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL);
        cr_expect_eq(err, -EUCLEAN, "case %u: %d", i, err);
        qc_file_unref(mem_file(file));
    }
}

/* One byte of a bitmap more than a cluster holds, of which only a bit is needed. */
Test(flaws, a_bitmap_covers_all_of_the_disk)
{
    static const Kind kind = {"v3-4k", 3, 12, 16, false};
    MemFile *file = script_image(&kind, (16 << 20) + 512);
    craft_bitmap(file);
    QcCheck result = check(file);
    cr_expect_eq(result.errors, 0, "%s", result.first);
    qc_file_unref(mem_file(file));
}

/* The name of a bitmap has at most 1023 bytes, and at least one. */
Test(flaws, a_bitmap_whose_name_has_no_valid_length_is_found_and_left_alone)
{
    static const uint16_t lengths[] = {0, 1, 1023, 1024, 4000};
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        bool valid = lengths[i] == 1 || lengths[i] == 1023;
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        be16 n = be16_make(lengths[i]);
        memcpy(file->data->data + entry + offsetof(QcDiskBitmapEntry, name_size), &n, sizeof(n));
        memset(file->data->data + entry + sizeof(QcDiskBitmapEntry), 'n', 4000);
        mem_file_put_word(file, bitmaps_field(file, offsetof(QcDiskBitmaps, directory_size)),
                          sizeof(QcDiskBitmapEntry) + qc_padded(lengths[i]));
        if (!valid) {
            expect_left_alone(file);
            continue;
        }
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* A bitmap that was not closed is of no use, and may be of another size; QEMU opens such images. */
Test(flaws, a_bitmap_in_use_may_have_any_size)
{
    uint64_t entry;
    MemFile *file = with_bitmap(&entry);
    uint64_t table = mem_file_word(file, entry + offsetof(QcDiskBitmapEntry, table_offset));
    mem_file_put_word(file, table + 8, QC_BITMAP_ALL_ONES);
    file->data->data[entry + offsetof(QcDiskBitmapEntry, table_size) + 3] = 2;
    file->data->data[entry + offsetof(QcDiskBitmapEntry, flags) + 3] = QC_BITMAP_IN_USE;
    expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
}

/* Without the mark in the header, what the extension says is no more true, and does not matter. */
Test(flaws, bitmaps_that_are_not_valid_are_dropped)
{
    for (unsigned broken = 0; broken < 2; broken++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        bool unknown;
        mem_file_put_word(file, offsetof(QcDiskHeader, autoclear_features), 0);
        if (broken)
            file->data->data[bitmaps_field(file, offsetof(QcDiskBitmaps, nb_bitmaps))] = 0xff;
        QcCheck before = check(file);
        cr_expect_eq(before.errors, 0, "%s", before.first);
        cr_expect_gt(before.leaks, 0);
        cr_expect_eq(0, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* Something in the header that nobody knows, and that might refer to clusters. */
typedef enum Unknown {
    UNKNOWN_NOTHING,
    UNKNOWN_EXTENSION,
    UNKNOWN_FIELD,
    UNKNOWN_AUTOCLEAR,
    UNKNOWN_COMPATIBLE,
    UNKNOWN_ALL,
} Unknown;

static void put_unknown(MemFile *file, Unknown what)
{
    const uint64_t extension = UINT64_C(0x12345678) << 32, field = 8, bit = UINT64_C(1) << 63;
    uint64_t order_and_length = mem_file_word(file, offsetof(QcDiskHeader, refcount_order));
    uint8_t *behind = file->data->data + (uint32_t)order_and_length;
    if (what == UNKNOWN_AUTOCLEAR)
        mem_file_put_word(file, offsetof(QcDiskHeader, autoclear_features), bit);
    if (what == UNKNOWN_COMPATIBLE)
        mem_file_put_word(file, offsetof(QcDiskHeader, compatible_features), bit);
    if (what != UNKNOWN_EXTENSION && what != UNKNOWN_FIELD)
        return;
    memmove(behind + 8, behind, 200);
    mem_file_put_word(file, (uint32_t)order_and_length, what == UNKNOWN_EXTENSION ? extension : 0);
    if (what == UNKNOWN_FIELD)
        mem_file_put_word(file, offsetof(QcDiskHeader, refcount_order), order_and_length + field);
}

Test(flaws, what_may_be_of_something_unknown_is_not_given_back)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    for (Unknown what = UNKNOWN_NOTHING; what < UNKNOWN_ALL; what++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&kind);
            bool unknown;
            craft_leaks(file, 2);
            put_unknown(file, what);
            uint64_t lost = check(file).leaks;
            cr_expect_eq(lost, 3);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            QcCheck after = check(file);
            cr_expect_eq(after.errors, 0, "%s", after.first);
            cr_expect_eq(after.leaks, what == UNKNOWN_NOTHING ? 0 : lost, "%u, command %zu", what,
                         c);
            qc_file_unref(mem_file(file));
        }
    }
}
