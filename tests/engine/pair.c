/* A chain of two layers, the upper one in memory: what a look-up reads, and what its errors spoil.
 */
#include "area.h"
#include "format.h"
#include "memfile.h"
#include "opened.h"
#include "view.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

enum {
    SMALL = 512,
    SMALLS = 256, /* clusters; four slices of the table; every other one has data */
    TWO_AREAS = QC_AREA_GRAINS + 64,
};

typedef struct Pair {
    char *dir, *base;
    QcGate *gate;
    MemFile *top;
} Pair;

static Opened open_pair(const Pair *p)
{
    Opened o = opened_new(mem_file(p->top), p->gate);
    cr_assert_eq(2, qc_chain_layers(o.chain));
    return o;
}

static Pair new_pair(unsigned clusters)
{
    Pair p = {.dir = g_dir_make_tmp("layers-XXXXXX", NULL), .top = mem_file_new(NULL, 0)};
    QcCreateOptions options = {.virtual_size = clusters * SMALL,
                               .cluster_bits = 9,
                               .backing_file = "base",
                               .backing_format = "raw"};
    uint8_t bytes[SMALL];

    p.base = g_build_filename(p.dir, "base", NULL);
    cr_assert(g_file_set_contents(p.base, "base", 4, NULL));
    cr_assert_eq(0, qc_gate_new(p.dir, QC_BACKING_STORE, &p.gate, NULL));
    cr_assert_eq(0, qc_create(mem_file(p.top), &options, NULL));
    memset(bytes, 't', sizeof(bytes));
    for (unsigned i = 0; i < clusters; i += 2) {
        g_auto(Opened) o = open_pair(&p);
        cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes, SMALL, i * SMALL, NULL, NULL));
    }
    return p;
}

static void free_pair(Pair *p)
{
    qc_file_unref(mem_file(p->top));
    qc_gate_unref(p->gate);
    g_unlink(p->base);
    g_rmdir(p->dir);
    g_free(p->base);
    g_free(p->dir);
}

/* Clusters at the ends of what is read of an L2 table at a time, and of the tables. */
static const unsigned wide_clusters[] = {0,    511,  512,  1023, 1025, 1536,
                                         2047, 2048, 2560, 4095, 4096};

enum {
    WIDE = 16384, /* a cluster; a table has 2,048 entries */
    WIDE_DISK = 4100 * WIDE,
};

static Pair new_wide_pair(void)
{
    Pair p = {.dir = g_dir_make_tmp("layers-XXXXXX", NULL), .top = mem_file_new(NULL, 0)};
    QcCreateOptions options = {.virtual_size = WIDE_DISK,
                               .cluster_bits = 14,
                               .backing_file = "base",
                               .backing_format = "raw"};
    g_autofree char *base = g_malloc(WIDE);
    g_autofree uint8_t *bytes = g_malloc(WIDE);

    memset(base, 'b', WIDE);
    p.base = g_build_filename(p.dir, "base", NULL);
    cr_assert(g_file_set_contents(p.base, base, WIDE, NULL));
    cr_assert_eq(0, qc_gate_new(p.dir, QC_BACKING_STORE, &p.gate, NULL));
    cr_assert_eq(0, qc_create(mem_file(p.top), &options, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(wide_clusters); i++) {
        g_auto(Opened) o = open_pair(&p);
        memset(bytes, (int)i + 1, WIDE);
        cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes, WIDE,
                                       (uint64_t)wide_clusters[i] * WIDE, NULL, NULL));
    }
    return p;
}

static uint8_t expected_wide(uint64_t cluster)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(wide_clusters); i++) {
        if (wide_clusters[i] == cluster)
            return (uint8_t)(i + 1);
    }
    return 0; /* the only cluster of the base is hidden */
}

Test(pair, every_entry_of_a_long_table_is_its_own)
{
    Pair p = new_wide_pair();

    for (unsigned backwards = 0; backwards < 2; backwards++) {
        g_auto(Opened) o = open_pair(&p);
        for (uint64_t i = 0; i < WIDE_DISK / WIDE; i++) {
            uint64_t cluster = backwards ? WIDE_DISK / WIDE - 1 - i : i;
            uint8_t byte = 0xee;

            cr_assert_eq(qc_view_read(o.view, &byte, 1, cluster * WIDE + 77), 1);
            cr_assert_eq(byte, expected_wide(cluster), "cluster %" G_GUINT64_FORMAT, cluster);
        }
    }
    free_pair(&p);
}

/* ---- every place -------------------------------------------------------------------------- */

enum {
    PLACES = 256 << 10, /* eight L2 tables of clusters of 512 bytes; the first are not there */
    READS = 3000,
};

static uint8_t pattern(uint64_t at, uint8_t seed)
{
    return (uint8_t)(at * 7 + at / 509 + seed);
}

static void write_pattern(const Pair *p, uint8_t *model, uint64_t from, uint64_t end)
{
    Opened o = opened_new(mem_file(p->top), p->gate);
    for (uint64_t at = from; at < end; at++)
        model[at] = pattern(at, 100);
    cr_assert_eq(0, qc_image_write(o.image, o.chain, model + from, end - from, from, NULL, NULL));
    opened_clear(&o);
}

/* The base has all, the top one some of it, in runs of many clusters; model is what is to be read.
 */
static Pair new_places(bool with_base, uint8_t *model)
{
    Pair p = {.dir = g_dir_make_tmp("layers-XXXXXX", NULL), .top = mem_file_new(NULL, 0)};
    QcCreateOptions options = {.virtual_size = PLACES,
                               .cluster_bits = 9,
                               .backing_file = with_base ? "base" : NULL,
                               .backing_format = with_base ? "raw" : NULL};

    for (uint64_t at = 0; at < PLACES; at++)
        model[at] = with_base ? pattern(at, 1) : 0;
    p.base = g_build_filename(p.dir, "base", NULL);
    cr_assert(g_file_set_contents(p.base, (char *)model, PLACES, NULL));
    cr_assert_eq(0, qc_gate_new(p.dir, QC_BACKING_STORE, &p.gate, NULL));
    cr_assert_eq(0, qc_create(mem_file(p.top), &options, NULL));
    write_pattern(&p, model, (70 << 10) + 100, 110 << 10);
    write_pattern(&p, model, 200 << 10, PLACES);
    return p;
}

Test(pair, every_place_is_read_right_from_wherever_reading_begins)
{
    for (unsigned with_base = 0; with_base < 2; with_base++) {
        g_autofree uint8_t *model = g_malloc(PLACES), *bytes = g_malloc(PLACES);
        Pair p = new_places(with_base, model);
        Opened o = opened_new(mem_file(p.top), p.gate);
        GRand *rand = g_rand_new_with_seed(1);
        for (unsigned i = 0; i < READS; i++) {
            uint64_t at = (uint64_t)g_rand_int_range(rand, 0, PLACES);
            size_t len = (size_t)g_rand_int_range(rand, 1, PLACES / 4);
            ssize_t n = qc_view_read(o.view, bytes, len, at);
            cr_assert_eq(n, (ssize_t)MIN(len, PLACES - at));
            cr_assert_arr_eq(bytes, model + at, (size_t)n, "%zd bytes at %zu", n, (size_t)at);
        }
        g_rand_free(rand);
        opened_clear(&o);
        free_pair(&p);
    }
}

/* ---- subclusters -------------------------------------------------------------------------- */

enum {
    SUBS = 8,              /* clusters of 16 KiB, of 32 subclusters */
    SUB_BYTES = WIDE / 32, /* of a subcluster */
};

/* What the entries of the first clusters say; the last cluster is data, and all have its table. */
static const uint64_t sub_bitmaps[] = {
    0,
    UINT64_C(0xffffffff) << 32, /* zeros, without a place */
    UINT64_C(0x0000ff00) << 32, /* of some subclusters */
    0,
    UINT64_C(0x80000001) << 32,
};

static Pair new_sub_pair(uint64_t *ret_l2)
{
    Pair p = {.dir = g_dir_make_tmp("layers-XXXXXX", NULL), .top = mem_file_new(NULL, 0)};
    QcCreateOptions options = {.virtual_size = SUBS * WIDE,
                               .cluster_bits = 14,
                               .extended_l2 = true,
                               .backing_file = "base",
                               .backing_format = "raw"};
    g_autofree char *bytes = g_malloc(SUBS * WIDE);

    memset(bytes, 'b', SUBS * WIDE);
    p.base = g_build_filename(p.dir, "base", NULL);
    cr_assert(g_file_set_contents(p.base, bytes, SUBS * WIDE, NULL));
    cr_assert_eq(0, qc_gate_new(p.dir, QC_BACKING_STORE, &p.gate, NULL));
    cr_assert_eq(0, qc_create(mem_file(p.top), &options, NULL));
    g_auto(Opened) o = open_pair(&p);
    memset(bytes, 't', WIDE);
    cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes, WIDE, (SUBS - 1) * WIDE, NULL, NULL));
    uint64_t l1 = mem_file_word(p.top, offsetof(QcDiskHeader, l1_table_offset));
    *ret_l2 = mem_file_word(p.top, l1) & QC_OFFSET_MASK;
    for (unsigned i = 0; i < G_N_ELEMENTS(sub_bitmaps); i++)
        mem_file_put_word(p.top, *ret_l2 + i * 16 + 8, sub_bitmaps[i]);
    return p;
}

static uint8_t expected_sub(uint64_t at)
{
    uint64_t cluster = at / WIDE;
    if (cluster == SUBS - 1)
        return 't';
    uint64_t zeros = cluster < G_N_ELEMENTS(sub_bitmaps) ? sub_bitmaps[cluster] >> 32 : 0;
    return zeros >> at % WIDE / SUB_BYTES & 1 ? 0 : 'b';
}

/* An entry without a place may say of subclusters that they are zeros all the same. */
Test(pair, subclusters_of_zeros_hide_what_is_beneath)
{
    uint64_t l2;
    Pair p = new_sub_pair(&l2);
    static const size_t lengths[] = {SUBS * WIDE, WIDE, 512, 3 * WIDE + 512};
    g_autofree uint8_t *bytes = g_malloc(SUBS * WIDE);

    for (unsigned n = 0; n < G_N_ELEMENTS(lengths); n++) {
        g_auto(Opened) o = open_pair(&p);
        for (uint64_t at = 0; at < SUBS * WIDE; at += lengths[n]) {
            size_t len = MIN(lengths[n], SUBS * WIDE - at);
            memset(bytes, 0xee, len);
            cr_assert_eq(qc_view_read(o.view, bytes, len, at), (ssize_t)len);
            for (size_t i = 0; i < len; i++)
                cr_assert_eq(bytes[i], expected_sub(at + i), "byte %zu of %zu", at + i, len);
        }
        for (uint64_t at = 0; at < SUBS * WIDE; at += SUB_BYTES)
            cr_assert_eq(qc_view_seek(o.view, at, true) == (int64_t)at, expected_sub(at) == 0);
    }
    free_pair(&p);
}

/* ---- errors ------------------------------------------------------------------------------- */

/* What cannot be read of the tables is an error for the places that need it, not for all. */
Test(pair, an_error_in_the_tables_is_not_one_for_the_area)
{
    Pair p = new_pair(SMALLS);
    unsigned failed = 0;
    uint8_t byte;

    for (int64_t at = 0; at < 8; at++) {
        g_auto(Opened) o = open_pair(&p);
        p.top->calls = 0;
        p.top->fail_at = at;
        p.top->fail_error = -EIO;
        failed += qc_view_read(o.view, &byte, 1, 0) != 1;
        p.top->fail_at = -1;
    }
    cr_expect_leq(failed, 1, "when the byte itself cannot be read");
    free_pair(&p);
}

/* Nothing of a view of the past is kept; still it is not looked up again for each cluster. */
Test(pair, a_stale_view_is_read_at_the_price_of_a_fresh_one)
{
    Pair p = new_pair(SMALLS);
    g_auto(Opened) o = open_pair(&p);
    uint8_t bytes[SMALLS * SMALL];

    p.top->mtime++;
    p.top->calls = 0;
    cr_assert_eq(qc_view_read(o.view, bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
    cr_expect_eq(-ESTALE, qc_view_check(o.view));
    cr_expect_leq(p.top->calls, SMALLS / 2 + 32, "the data, and the tables once");
    free_pair(&p);
}

/* Reads of the top file that it takes to read a cluster of the second area. */
static unsigned reads_of_second_area(bool prepared)
{
    Pair p = new_pair(TWO_AREAS);
    g_auto(Opened) o = open_pair(&p);
    uint8_t byte;

    cr_assert_eq(qc_view_read(o.view, &byte, 1, 0), 1);
    if (prepared)
        qc_view_prepare(o.view, 0);
    p.top->calls = 0;
    cr_assert_eq(qc_view_read(o.view, &byte, 1, (QC_AREA_GRAINS + 2) * SMALL), 1);
    cr_assert_eq(byte, 't');
    unsigned calls = (unsigned)p.top->calls;
    free_pair(&p);
    return calls;
}

Test(pair, what_is_prepared_need_not_be_looked_up)
{
    cr_expect_eq(reads_of_second_area(true), 1, "the data");
    cr_expect_gt(reads_of_second_area(false), 1);
}

/* A place is of one area: what lies before it is looked up as what lies behind it. */
Test(pair, a_place_before_the_area_is_in_another_one)
{
    Pair p = new_pair(TWO_AREAS);
    g_auto(Opened) o = open_pair(&p);
    g_auto(QcPlace) place = {0};
    QcExtent e, want;

    cr_assert_eq(0, qc_view_map_to_read(o.view, QC_AREA_GRAINS * SMALL, SMALL, &place, &e));
    cr_assert_eq(place.start, QC_AREA_GRAINS * SMALL);
    cr_assert_eq(0, qc_view_map(o.view, 0, SMALL, &want));
    cr_assert_eq(0, qc_view_map_to_read(o.view, 0, SMALL, &place, &e));
    cr_expect_eq(place.start, 0);
    cr_expect_eq(e.kind, QC_EXTENT_DATA);
    cr_expect_eq(e.host_offset, want.host_offset);
    cr_expect_eq(e.length, SMALL);
    free_pair(&p);
}
