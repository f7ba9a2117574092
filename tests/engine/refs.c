/* The model of refcounts: what it tells of a cluster in two ways; and counting in another order. */
#include "refs.h"
#include "format.h"
#include "opened.h"
#include "samples.h"
#include "spread.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <errno.h>

typedef struct Model {
    Opened opened;
    QcRefs *refs;
    uint64_t n; /* clusters of the file, and some */
} Model;

/* Of the image in file, to which it takes over the reference. */
static Model open_model(MemFile *file)
{
    Model m = {.opened = opened_new(mem_file(file), NULL)};
    const QcImage *image = m.opened.image;

    cr_assert_eq(0, qc_refs_load(m.opened.image, &(QcMeter){0}, &m.refs, NULL));
    m.n = qc_clusters_for(&image->header.layout, image->info.stat.size) + 100;
    qc_file_unref(mem_file(file));
    return m;
}

static void close_model(Model *m)
{
    qc_refs_free(m->refs);
    opened_clear(&m->opened);
}

static void expect_same_use(Model *m)
{
    for (uint64_t c = 0; c < m->n; c++) {
        uint64_t count = qc_refs_get(m->refs, c);
        QcRefUse use;

        cr_assert_eq(0, qc_refs_use(m->refs, c, &use));
        cr_assert_eq(use, MIN(count, 2), "cluster %" G_GUINT64_FORMAT, c);
    }
}

/* The same row by row. */
static void expect_same_use_of_rows(Model *m)
{
    for (uint64_t c = 0, same; c < m->n; c += same) {
        QcRefUse use;

        same = qc_refs_same_use(m->refs, c, m->n - c, &use);
        cr_assert_gt(same, 0);
        cr_assert_leq(same, m->n - c);
        for (uint64_t i = c; i < c + same; i++)
            cr_assert_eq(use, MIN(qc_refs_get(m->refs, i), 2), "cluster %" G_GUINT64_FORMAT, i);
        if (c + same < m->n)
            cr_assert_neq(use, MIN(qc_refs_get(m->refs, c + same), 2), "not to its end");
    }
}

/* Before and after counts have changed, and clusters have been given out. */
Test(refs, use_is_what_the_count_says)
{
    for (size_t i = 0; i < n_samples; i++) {
        if (samples[i].traits & (TRAIT_BACKING | TRAIT_DIRTY) || sample_is_big(&samples[i]))
            continue;
        Model m = open_model(sample_make(&samples[i], NULL));
        uint64_t first;

        expect_same_use(&m);
        for (uint64_t c = 0; c < m.n; c++) {
            uint64_t count = qc_refs_get(m.refs, c);

            if (count > 0 && c % 3 == 0)
                cr_assert_eq(0, qc_refs_add(m.refs, c, 1, -1));
            else if (count == 1 && c % 3 == 1 && m.opened.image->info.refcount_bits > 1)
                cr_assert_eq(0, qc_refs_add(m.refs, c, 1, 1));
        }
        cr_assert_eq(0, qc_refs_alloc(m.refs, 5, 1, &first));
        expect_same_use(&m);
        expect_same_use_of_rows(&m);
        close_model(&m);
    }
}

/* ---- trees --------------------------------------------------------------------------------- */

/* The result of accounting for the active tree, with these bits in its first L2 entry as well. */
static int account_with(uint64_t bits)
{
    MemFile *file = sample_make(&samples[0], NULL);
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset)), l2;
    g_autofree uint64_t *l1 = NULL;

    while (!(l2 = mem_file_word(file, at) & QC_OFFSET_MASK))
        at += sizeof(be64);
    mem_file_put_word(file, l2, mem_file_word(file, l2) | bits);
    Model m = open_model(file);
    QcImage *image = m.opened.image;
    const QcHeader *h = &image->header;
    cr_assert_eq(0, qc_l1_load(image, h->l1_offset, h->l1_entries, &l1));
    int err = qc_tree_account(image, m.refs, l1, h->l1_entries, 1, &(QcMeter){0});
    close_model(&m);
    return err;
}

/* What else there is in its table is well. */
Test(refs, an_entry_that_is_not_valid_is_not_accounted_for)
{
    cr_expect_eq(0, account_with(0));
    cr_expect_eq(-EUCLEAN, account_with(2));
    cr_expect_eq(-EUCLEAN, account_with(0x100));
}

/* ---- runs of clusters ---------------------------------------------------------------------- */

/* Store a count for each of a row of clusters; 64 of 64 bits are in a block of 512 bytes. */
static void store_counts(MemFile *file, uint64_t first, uint64_t n, uint64_t count)
{
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    for (uint64_t c = first; c < first + n; c++)
        mem_file_put_word(file, mem_file_word(file, table + c / 64 * 8) + c % 64 * 8, count);
}

/* An image with these refcount blocks, and all that its clusters have is 1. */
static MemFile *with_full_blocks(uint64_t *ret_blocks)
{
    static const Kind kind = {"v3-512-64bit", 3, 9, 64, false};
    static const Step write = {.kind = STEP_WRITE, .len = 100 * 1024, .seed = 1};
    MemFile *file = script_image(&kind, 100 * 1024);
    uint64_t blocks = 0;
    bool unknown;

    cr_assert_eq(0, script_run(file, &write, &unknown));
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    while (mem_file_word(file, table + blocks * 8))
        blocks++;
    cr_assert_gt(blocks, 3);
    store_counts(file, 0, blocks * 64, 1);
    *ret_blocks = blocks;
    return file;
}

/* A free cluster before a block without any is no beginning of a run that goes on behind it. */
Test(refs, a_run_does_not_reach_over_a_full_block)
{
    uint64_t blocks, first;
    MemFile *file = with_full_blocks(&blocks);

    store_counts(file, (blocks - 1) * 64 - 1, 1, 0);
    Model m = open_model(file);
    cr_assert_eq(0, qc_refs_alloc(m.refs, 2, 1, &first));
    cr_expect_eq(first, blocks * 64);
    cr_assert_eq(0, qc_refs_alloc(m.refs, 1, 1, &first));
    cr_expect_eq(first, (blocks - 1) * 64 - 1, "it is there for one");
    close_model(&m);
}

/* The same; behind them, there is no block at one place, and at the next a block of zeros. */
static MemFile *with_zeros_behind(uint64_t *ret_blocks)
{
    MemFile *file = with_full_blocks(ret_blocks);
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    uint64_t zeros = *ret_blocks * 64 * 512 - 512;

    g_byte_array_set_size(file->data, (guint)zeros + 512);
    memset(file->data->data + zeros, 0, 512);
    mem_file_put_word(file, table + (*ret_blocks + 1) * 8, zeros);
    return file;
}

/* The result of adding to a row while one cluster is free. */
static int add_to_row(uint64_t first, uint64_t count, uint64_t free, int delta)
{
    uint64_t blocks;
    MemFile *file = with_zeros_behind(&blocks);

    store_counts(file, free, 1, 0);
    Model m = open_model(file);
    int err = qc_refs_add(m.refs, first, count, delta);
    close_model(&m);
    return err;
}

/* One that was free may be given out: who refers to it is wrong. */
Test(refs, no_cluster_of_a_row_may_be_free)
{
    uint64_t blocks;

    qc_file_unref(mem_file(with_zeros_behind(&blocks)));
    for (int delta = -1; delta <= 1; delta += 2) {
        cr_expect_eq(0, add_to_row(70, 100, 69, delta), "the one before");
        cr_expect_eq(0, add_to_row(70, 100, 170, delta), "the one behind");
        cr_expect_eq(-EUCLEAN, add_to_row(70, 100, 70, delta), "the first");
        cr_expect_eq(-EUCLEAN, add_to_row(70, 100, 100, delta), "in the first block");
        cr_expect_eq(-EUCLEAN, add_to_row(70, 100, 169, delta), "the last");
        cr_expect_eq(-EUCLEAN, add_to_row(blocks * 64, 10, 70, delta), "no block");
        cr_expect_eq(-EUCLEAN, add_to_row((blocks + 1) * 64, 10, 70, delta), "a block of zeros");
        cr_expect_eq(-EUCLEAN, add_to_row((blocks + 9) * 64, 10, 70, delta), "past the table");
    }
}

/* The n-th cluster of the last block, where all others are used, on a file of as many. */
static uint64_t last_block_free(MemFile *file, const unsigned *free, size_t n)
{
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset)), blocks = 0;
    while (mem_file_word(file, table + blocks * 8))
        blocks++;
    store_counts(file, 0, blocks * 64, 1);
    for (size_t i = 0; i < n; i++)
        store_counts(file, (blocks - 1) * 64 + free[i], 1, 0);
    g_byte_array_set_size(file->data, (guint)blocks * 64 * 512);
    return (blocks - 1) * 64;
}

static const Kind one_word_each = {"v3-512-64bit", 3, 9, 64, false};

Test(refs, a_run_does_not_reach_over_a_used_cluster)
{
    static const unsigned free[] = {10, 11, 13, 14, 15};
    MemFile *file = script_image(&one_word_each, 100 * 1024);
    uint64_t block = last_block_free(file, free, G_N_ELEMENTS(free)), first;
    Model m = open_model(file);
    cr_assert_eq(0, qc_refs_alloc(m.refs, 3, 1, &first));
    cr_expect_eq(first, block + 13);
    cr_assert_eq(0, qc_refs_alloc(m.refs, 2, 1, &first));
    cr_expect_eq(first, block + 10);
    close_model(&m);
}

Test(refs, a_run_does_not_reach_over_the_end_of_a_device)
{
    static const unsigned free[] = {62, 63};
    MemFile *file = script_image(&one_word_each, 100 * 1024);
    uint64_t block = last_block_free(file, free, G_N_ELEMENTS(free)), first;
    file->device = true;
    Model m = open_model(file);
    cr_expect_eq(-ENOSPC, qc_refs_alloc(m.refs, 3, 1, &first));
    cr_assert_eq(0, qc_refs_alloc(m.refs, 2, 1, &first));
    cr_expect_eq(first, block + 62);
    cr_expect_eq(-ENOSPC, qc_refs_alloc(m.refs, 1, 1, &first));
    close_model(&m);
}

/* Nor does the search for one, which passes a full block at once. */
Test(refs, a_full_device_that_ends_within_a_block_has_no_room)
{
    MemFile *file = script_image(&one_word_each, 100 * 1024);
    uint64_t block = last_block_free(file, NULL, 0), first;
    g_byte_array_set_size(file->data, (guint)(block + 40) * 512);
    file->device = true;
    Model m = open_model(file);
    cr_expect_eq(-ENOSPC, qc_refs_alloc(m.refs, 1, 1, &first));
    close_model(&m);
}

/* Of one of which a device has a part only, nothing that is put there would be whole. */
Test(refs, the_last_cluster_of_a_device_is_given_out_if_it_is_whole)
{
    static const unsigned free[] = {40};
    for (unsigned lacking = 0; lacking < 2; lacking++) {
        MemFile *file = script_image(&one_word_each, 100 * 1024);
        uint64_t block = last_block_free(file, free, G_N_ELEMENTS(free)), first;
        g_byte_array_set_size(file->data, (guint)(block + 41) * 512 - lacking);
        file->device = true;
        Model m = open_model(file);
        cr_expect_eq(lacking ? -ENOSPC : 0, qc_refs_alloc(m.refs, 1, 1, &first));
        close_model(&m);
    }
}

/* ---- the table's place -------------------------------------------------------------------- */

enum {
    FULL_TABLE = 512 / sizeof(be64), /* blocks */
    FULL_FILE = FULL_TABLE * 64,     /* clusters that they count */
};

/* An image that uses all that a table of one cluster counts. */
static MemFile *with_full_table(void)
{
    MemFile *file = script_image(&one_word_each, 1024);
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    guint old = file->data->len;

    g_byte_array_set_size(file->data, FULL_FILE * 512);
    memset(file->data->data + old, 0, FULL_FILE * 512 - old);
    for (uint64_t i = 0; i < FULL_TABLE; i++)
        mem_file_put_word(file, table + i * 8, (FULL_FILE - FULL_TABLE + i) * 512);
    store_counts(file, 0, FULL_FILE, 1);
    return file;
}

/* The table's new place is not counted by any block that there is. So the table gets longer, and
 * has to lie elsewhere. The first place is counted as free then, and not given out. */
Test(refs, a_table_that_its_own_place_makes_longer_is_placed_again)
{
    Model m = open_model(with_full_table());
    uint64_t offset, first;
    uint32_t n;

    cr_assert_eq(0, qc_refs_place(m.refs, &offset, &n));
    cr_expect_eq(n, 2);
    cr_expect_gt(offset, FULL_FILE * 512);
    cr_expect_eq(0, qc_refs_get(m.refs, FULL_FILE));
    for (unsigned i = 0; i < n; i++)
        cr_expect_eq(1, qc_refs_get(m.refs, offset / 512 + i));
    cr_assert_eq(0, qc_refs_alloc(m.refs, 1, 1, &first));
    cr_expect_gt(first, FULL_FILE);
    close_model(&m);
}

/* An image whose table of refcounts is as large as it may be, to its last entry. */
static MemFile *with_largest_table(void)
{
    enum { CLUSTER = 65536, TABLE = QC_MAX_REFCOUNT_TABLE_BYTES };
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    MemFile *file = script_image(&kind, CLUSTER);
    uint64_t at = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER, end = at + TABLE + CLUSTER;
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    uint64_t block = mem_file_word(file, table);
    be32 clusters = be32_make(TABLE / CLUSTER);
    guint old = file->data->len;

    g_byte_array_set_size(file->data, (guint)end);
    memset(file->data->data + old, 0, end - old);
    for (uint64_t c = at / CLUSTER; c < end / CLUSTER; c++)
        file->data->data[block + c * 2 + 1] = 1;
    mem_file_put_word(file, at, block);
    mem_file_put_word(file, at + TABLE - 8, at + TABLE); /* a block that counts nothing */
    mem_file_put_word(file, offsetof(QcDiskHeader, refcount_table_offset), at);
    memcpy(file->data->data + offsetof(QcDiskHeader, refcount_table_clusters), &clusters,
           sizeof(clusters));
    return file;
}

Test(refs, the_largest_table_is_placed_like_any)
{
    Model m = open_model(with_largest_table());
    uint64_t offset;
    uint32_t n;

    cr_expect_eq(0, qc_refs_place(m.refs, &offset, &n));
    cr_expect_eq(n, QC_MAX_REFCOUNT_TABLE_BYTES / 65536);
    close_model(&m);
}

/* ---- a spread ----------------------------------------------------------------------------- */

enum {
    N_NUMBERS = 1200000, /* more than are held back */
    RANGE = 1 << 21,
    LARGE_TAG = UINT16_MAX + 1,
};

typedef struct Taken {
    uint32_t *tags;    /* of each number; 0: did not come */
    uint64_t back, at; /* how often a number was far from the one before, and that */
    uint64_t rows;     /* of several, taken together */
    uint64_t fail_at;
} Taken;

static int take_numbers(void *data, uint64_t first, uint64_t count, uint32_t tag)
{
    Taken *t = data;

    for (uint64_t i = first; i < first + count; i++) {
        if (i == t->fail_at)
            return -EUCLEAN;
        cr_assert_lt(i, 2 * RANGE);
        cr_assert_eq(t->tags[i], 0, "twice");
        t->tags[i] = tag;
    }
    t->back += first >> 18 != t->at >> 18;
    t->at = first;
    t->rows += count > 1;
    return 0;
}

/* All numbers of a stride that visits each once, some past the range that was announced. */
static uint64_t number(uint64_t i)
{
    return i * 7919 * 13 % (RANGE + RANGE / 4);
}

static uint32_t tag_of(uint64_t i)
{
    return i % 1000 == 0 ? LARGE_TAG : (uint32_t)(i % UINT16_MAX) + 1;
}

Test(spread, each_number_comes_once_and_neighbours_together)
{
    Model m = open_model(sample_make(&samples[0], NULL));
    g_autofree uint32_t *tags = g_new0(uint32_t, 2 * RANGE);
    Taken taken = {.tags = tags, .fail_at = UINT64_MAX};
    QcSpread *spread;

    cr_assert_eq(0, qc_spread_new(m.refs, RANGE, take_numbers, &taken, &spread));
    for (uint64_t i = 0; i < N_NUMBERS; i++)
        cr_assert_eq(0, qc_spread_add(spread, number(i), 1, tag_of(i)));
    cr_assert_eq(0, qc_spread_flush(spread));
    for (uint64_t i = 0; i < N_NUMBERS; i++)
        cr_assert_eq(tags[number(i)], tag_of(i));
    cr_expect_lt(taken.back, N_NUMBERS / 3);
    qc_spread_free(spread);
    close_model(&m);
}

/* Rows of 0 to 19, one behind the other, backwards: long ones stay together, and nothing is lost.
 */
Test(spread, long_rows_are_taken_together)
{
    enum { ROWS = 10000, STRIDE = 20 };
    Model m = open_model(sample_make(&samples[0], NULL));
    g_autofree uint32_t *tags = g_new0(uint32_t, 2 * RANGE);
    Taken taken = {.tags = tags, .fail_at = UINT64_MAX};
    QcSpread *spread;

    cr_assert_eq(0, qc_spread_new(m.refs, RANGE, take_numbers, &taken, &spread));
    for (uint64_t i = ROWS; i-- > 0;)
        cr_assert_eq(0, qc_spread_add(spread, i * STRIDE, i % STRIDE, 7));
    cr_assert_eq(0, qc_spread_flush(spread));
    for (uint64_t i = 0; i < (uint64_t)ROWS * STRIDE; i++)
        cr_assert_eq(tags[i], i % STRIDE < i / STRIDE % STRIDE ? 7 : 0, "%" G_GUINT64_FORMAT, i);
    cr_expect_eq(taken.rows, ROWS / STRIDE * (STRIDE - QC_LONG_ROW));
    qc_spread_free(spread);
    close_model(&m);
}

/* Also of one of a few, while the others are well. */
Test(spread, an_error_in_a_row_comes_back)
{
    for (uint64_t count = 2; count <= 2 * QC_LONG_ROW; count++) {
        for (uint64_t bad = 0; bad < count; bad++) {
            Model m = open_model(sample_make(&samples[0], NULL));
            g_autofree uint32_t *tags = g_new0(uint32_t, 2 * RANGE);
            uint64_t first = 2 * RANGE - count; /* too large to be held back */
            Taken taken = {.tags = tags, .fail_at = first + bad};
            QcSpread *spread;

            cr_assert_eq(0, qc_spread_new(m.refs, RANGE, take_numbers, &taken, &spread));
            cr_expect_eq(-EUCLEAN, qc_spread_add(spread, first, count, 7));
            qc_spread_free(spread);
            close_model(&m);
        }
    }
}

/* The result of adding numbers until one of them, the one that fails, comes back. */
static int add_until_error(uint64_t failing, uint64_t n, bool flush)
{
    Model m = open_model(sample_make(&samples[0], NULL));
    g_autofree uint32_t *tags = g_new0(uint32_t, 2 * RANGE);
    Taken taken = {.tags = tags, .fail_at = number(failing)};
    QcSpread *spread;
    int err = 0;

    cr_assert_eq(0, qc_spread_new(m.refs, RANGE, take_numbers, &taken, &spread));
    for (uint64_t i = 1; i < n && !err; i++)
        err = qc_spread_add(spread, number(i), 1, 1);
    if (!err && flush)
        err = qc_spread_flush(spread);
    qc_spread_free(spread);
    close_model(&m);
    return err;
}

Test(spread, an_error_comes_back)
{
    cr_expect_eq(-EUCLEAN, add_until_error(5, 10, true), "when all is handed on");
    cr_expect_eq(0, add_until_error(5, 10, false));
    cr_expect_eq(-EUCLEAN, add_until_error(5, N_NUMBERS, false), "when a bin is full");
}
