/* How much an image may claim: the longest table of snapshots, and the memory of a count. */
#include "craft.h"
#include "format.h"
#include "image.h"
#include "opened.h"
#include "refs.h"
#include "script.h"
#include "tally.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum {
    CLUSTER = 65536,
    DISK = 4 * CLUSTER,
};

static const Kind kind = {"v3-64k", 3, 16, 16, false};

/* ---- the table of snapshots --------------------------------------------------------------- */

enum {
    TABLE_MAX = QC_MAX_SNAPSHOT_TABLE_BYTES,
    ENTRY = 128 << 10, /* with an id and a name that are nearly as long as they can be */
    N_MOST = TABLE_MAX / ENTRY,
    EXTRA = 16,
    TAKEN = sizeof(QcDiskSnapshot) + sizeof(QcDiskSnapshotExtra) + 8, /* id and name: 8 bytes */
};

/* An entry of so many bytes. Its id and its name are zeros, its L1 table is empty. */
static void put_entry(MemFile *file, uint64_t at, uint32_t size)
{
    uint32_t texts = size - (uint32_t)sizeof(QcDiskSnapshot) - EXTRA, id = MIN(texts, UINT16_MAX);
    QcDiskSnapshot d = {.id_size = be16_make((uint16_t)id),
                        .name_size = be16_make((uint16_t)(texts - id)),
                        .extra_data_size = be32_make(EXTRA)};
    be64 disk_size = be64_make(DISK);

    memcpy(file->data->data + at, &d, sizeof(d));
    memcpy(file->data->data + at + sizeof(d) + 8, &disk_size, sizeof(disk_size));
}

/* An image with n snapshots that take ENTRY bytes, the last of them so many less. */
static MemFile *with_table(unsigned n, unsigned less)
{
    MemFile *file = script_image(&kind, DISK);
    uint64_t at = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
    guint old = file->data->len, end = (guint)(at + (uint64_t)n * ENTRY);
    be32 count = be32_make(n);

    g_byte_array_set_size(file->data, end);
    memset(file->data->data + old, 0, end - old);
    for (unsigned i = 0; i < n; i++)
        put_entry(file, at + (uint64_t)i * ENTRY, i + 1 == n ? ENTRY - less : ENTRY);
    memcpy(file->data->data + offsetof(QcDiskHeader, nb_snapshots), &count, sizeof(count));
    mem_file_put_word(file, offsetof(QcDiskHeader, snapshots_offset), at);
    return file;
}

static int open_with_table(unsigned n)
{
    MemFile *file = with_table(n, 0);
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    int err = qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL);

    qc_file_unref(mem_file(file));
    return err;
}

Test(limits, a_table_of_snapshots_is_read_up_to_its_largest_size)
{
    cr_expect_eq(0, open_with_table(N_MOST));
    cr_expect_eq(-EUCLEAN, open_with_table(N_MOST + 1));
}

/* Take a snapshot that lets the table become so many bytes longer than it may be. */
static int take_beyond(int bytes)
{
    MemFile *file = with_table(N_MOST, TAKEN - (unsigned)bytes);
    Step repair = {.kind = STEP_REPAIR}, take = {.kind = STEP_TAKE, .name = "1234567"};
    bool unknown;

    cr_assert_eq(0, script_run(file, &repair, &unknown)); /* the table is counted now */
    uint64_t before = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    int err = script_run(file, &take, &unknown);
    uint64_t after = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    cr_expect_eq(before == after, err != 0);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_image_info(o.image)->n_snapshots, N_MOST + (err == 0));
    qc_file_unref(mem_file(file));
    return err;
}

/* What would be longer could not be read any more. */
Test(limits, a_table_of_snapshots_is_written_up_to_its_largest_size)
{
    cr_expect_eq(0, take_beyond(0));
    cr_expect_eq(-EFBIG, take_beyond(8));
}

/* One more, and the image could not be opened any more. */
Test(limits, snapshots_are_taken_up_to_their_largest_number)
{
    static const Kind wide = {"v3-512-64bit", 3, 9, 64, false};
    Step take = {.kind = STEP_TAKE, .name = "last"}, more = {.kind = STEP_TAKE, .name = "more"};
    MemFile *file = script_image(&wide, 65536);
    bool unknown;

    cr_assert_eq(0, script_run(file, &take, &unknown));
    craft_snapshots(file, QC_MAX_SNAPSHOTS - 1, 6, false);
    cr_expect_eq(0, script_run(file, &take, &unknown));
    cr_expect_eq(-EFBIG, script_run(file, &more, &unknown));
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_image_info(o.image)->n_snapshots, QC_MAX_SNAPSHOTS);
    qc_file_unref(mem_file(file));
}

/* ---- the memory of a count ---------------------------------------------------------------- */

enum {
    PER_BLOCK = CLUSTER / 2, /* clusters that one refcount block counts */
    MANY = 4096,             /* blocks: more than can be had */
};

/* An image whose second refcount block, which is counted, lies in a hole. */
static MemFile *with_empty_block(void)
{
    MemFile *file = script_image(&kind, DISK);
    uint64_t at = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    guint old = file->data->len;

    g_byte_array_set_size(file->data, (guint)at + CLUSTER);
    memset(file->data->data + old, 0, at + CLUSTER - old);
    file->data->data[mem_file_word(file, table) + at / CLUSTER * 2 + 1] = 1;
    mem_file_put_word(file, table + 8, at);
    file->sparse = true;
    return file;
}

/* An image that says that its file is as large as MANY blocks can count. */
static Opened open_vast(uint64_t allocated)
{
    MemFile *file = with_empty_block();
    Opened o = opened_new(mem_file(file), NULL);

    qc_file_unref(mem_file(file));
    o.image->info.stat.size = (uint64_t)MANY * PER_BLOCK * CLUSTER;
    o.image->info.stat.allocated = allocated;
    return o;
}

static int count_in_block(QcTally *t, uint64_t block)
{
    return qc_tally_count(t, block * PER_BLOCK + 7, 1, 1, QC_REF_DATA, NULL);
}

/* How many blocks can be had when the file holds so much: some memory more than that. */
static unsigned blocks_for(uint64_t allocated)
{
    Opened o = open_vast(allocated);
    QcTally t;
    unsigned n = 0;
    int err = 0;

    cr_assert_eq(0, qc_tally_init(&t, o.image, NULL));
    while (n < MANY && !err) {
        err = count_in_block(&t, n);
        n += err == 0;
    }
    cr_expect_eq(err, -E2BIG);
    cr_expect_eq(-E2BIG, count_in_block(&t, n));
    cr_expect_eq(0, qc_tally_count(&t, 9, 1, 1, QC_REF_DATA, NULL), "a block that is there");
    qc_tally_clear(&t);
    opened_clear(&o);
    return n;
}

Test(limits, a_count_takes_memory_by_what_the_file_holds)
{
    unsigned least = blocks_for(0), more = blocks_for(100 * CLUSTER);

    cr_expect_lt(least, 1024); /* 64 MiB, with all that a block takes besides */
    cr_expect_gt(least, 1000);
    cr_expect_geq(more - least, 98);
    cr_expect_leq(more - least, 100);
}

/* A table that is long for one block far behind takes memory too. */
Test(limits, a_count_takes_memory_for_the_way_to_a_block)
{
    Opened o = open_vast(0);
    QcTally t;

    cr_assert_eq(0, qc_tally_init(&t, o.image, NULL));
    uint64_t before = t.memory_left;
    cr_assert_eq(0, count_in_block(&t, 1));
    uint64_t near = before - t.memory_left;
    before = t.memory_left;
    cr_assert_eq(0, count_in_block(&t, MANY - 1));
    cr_expect_gt(before - t.memory_left, near + (MANY - 3) * sizeof(void *));
    qc_tally_clear(&t);
    opened_clear(&o);
}

/* What has no stored count is not counted: so the stored ones bound the memory, and nothing else.
 */
Test(limits, a_count_takes_no_more_than_the_stored_counts)
{
    Opened o = open_vast(0);
    QcRefs *stored;
    QcTally t;

    cr_assert_eq(0, qc_refs_load(o.image, &(QcMeter){0}, &stored, NULL));
    cr_assert_eq(0, qc_tally_init(&t, o.image, stored));
    cr_expect_gt(t.memory_left, UINT64_MAX / 2);
    cr_expect_eq(0, count_in_block(&t, 0));
    cr_expect_eq(-ENODATA, count_in_block(&t, 1), "a block without counts");
    cr_expect_eq(-ENODATA, count_in_block(&t, 2), "no block");
    qc_tally_clear(&t);
    qc_refs_free(stored);
    opened_clear(&o);
}

/* ---- what is counted ---------------------------------------------------------------------- */

Test(limits, what_no_table_of_refcounts_reaches_is_not_counted)
{
    Opened o = open_vast(0);
    QcTally t;

    o.image->info.stat.size = UINT64_C(1) << 60;
    cr_assert_eq(0, qc_tally_init(&t, o.image, NULL));
    uint64_t end = QC_MAX_REFCOUNT_TABLE_BYTES / sizeof(be64) * PER_BLOCK;
    cr_expect_eq(-EUCLEAN, qc_tally_count(&t, end, 1, 1, QC_REF_DATA, NULL));
    cr_expect_eq(-EUCLEAN, qc_tally_count(&t, end - 1, 2, 1, QC_REF_DATA, NULL));
    qc_tally_clear(&t);
    opened_clear(&o);
}

Test(limits, a_table_shares_its_cluster_with_nothing)
{
    Opened o = open_vast(0);
    QcTally t;

    o.image->info.stat.size = UINT64_C(1) << 60;
    cr_assert_eq(0, qc_tally_init(&t, o.image, NULL));
    cr_expect_eq(0, qc_tally_count(&t, 5, 1, 1, QC_REF_TABLE, NULL));
    cr_expect_eq(-EEXIST, qc_tally_count(&t, 5, 1, 1, QC_REF_TABLE, NULL));
    cr_expect_eq(-EEXIST, qc_tally_count(&t, 5, 1, 1, QC_REF_DATA, NULL));
    cr_expect_eq(0, qc_tally_count(&t, 6, 1, 1, QC_REF_DATA, NULL));
    cr_expect_eq(-EEXIST, qc_tally_count(&t, 6, 1, 1, QC_REF_TABLE, NULL));
    cr_expect_eq(0, qc_tally_count(&t, 6, 1, 1, QC_REF_DATA, NULL));
    uint64_t last = (CLUSTER / sizeof(be64) - 1) * PER_BLOCK; /* in the table's last block */
    cr_expect_eq(0, qc_tally_count(&t, last, 1, 1, QC_REF_TABLE, NULL));
    cr_expect_eq(-EEXIST, qc_tally_count(&t, last, 1, 1, QC_REF_DATA, NULL));
    /* It is still known when one lies farther away than the table of refcounts reaches by now. */
    cr_expect_eq(0, qc_tally_count(&t, UINT64_C(20000) * PER_BLOCK, 1, 1, QC_REF_TABLE, NULL));
    cr_expect_eq(-EEXIST, qc_tally_count(&t, 5, 1, 1, QC_REF_DATA, NULL));
    qc_tally_clear(&t);
    opened_clear(&o);
}

/* A cluster that is counted as often as a block has clusters does not make the block look full. */
Test(limits, one_cluster_is_in_use_once_however_often_it_is_counted)
{
    Opened o = open_vast(0);
    uint64_t first;
    QcTally t;

    cr_assert_eq(0, qc_tally_init(&t, o.image, NULL));
    for (unsigned i = 0; i < PER_BLOCK; i++)
        cr_assert_eq(0, qc_tally_count(&t, 1, 1, 1, QC_REF_DATA, NULL));
    cr_assert_eq(0, qc_refs_alloc(t.refs, 1, 1, &first));
    cr_expect_eq(first, 2);
    qc_tally_clear(&t);
    opened_clear(&o);
}
