/*
 * Images made to be a burden: what they cost is bounded by what their file really holds, however
 * much it claims. Counted in reads, so that the machine does not matter; the time limits are
 * there to end what would take hours.
 */
#include "countfile.h"
#include "format.h"
#include "opened.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

enum {
    MAX_ENTRIES = QC_MAX_L1_BYTES / 8, /* of an L1 table */
};

/* An image that is being made, and its layout. */
typedef struct Made {
    CountFile *file;
    QcDiskHeader header;
    unsigned bits;
    uint64_t cluster;
} Made;

static void put(const Made *m, uint64_t at, const void *bytes, size_t len)
{
    cr_assert_eq(0, qc_file_write(count_file(m->file), bytes, len, at));
}

static void put_word(const Made *m, uint64_t at, uint64_t value)
{
    be64 v = be64_make(value);
    put(m, at, &v, sizeof(v));
}

/* n words from at on: first, first + step, and so on. */
static void put_words(const Made *m, uint64_t at, uint64_t n, uint64_t first, uint64_t step)
{
    g_autofree be64 *words = g_new(be64, n);
    for (uint64_t i = 0; i < n; i++)
        words[i] = be64_make(first + i * step);
    put(m, at, words, n * sizeof(be64));
}

/* Version 3, 16-bit refcounts: the table in cluster 1, its first block in cluster 2. */
static Made make(unsigned bits, uint64_t size, uint64_t l1, uint32_t entries)
{
    Made m = {.file = count_file_new(sparse_file_new()), .bits = bits};
    m.cluster = UINT64_C(1) << bits;
    m.header = (QcDiskHeader){
        .magic = be32_make(QCOW_MAGIC),
        .version = be32_make(3),
        .cluster_bits = be32_make(bits),
        .size = be64_make(size),
        .l1_size = be32_make(entries),
        .l1_table_offset = be64_make(l1),
        .refcount_table_offset = be64_make(m.cluster),
        .refcount_table_clusters = be32_make(1),
        .refcount_order = be32_make(4),
        .header_length = be32_make(sizeof(QcDiskHeader)),
    };
    put_word(&m, m.cluster, 2 * m.cluster);
    return m;
}

/* Write the header, let the file have a length, and count from now on. */
static QcFile *finish(Made *m, uint64_t length)
{
    QcFile *file = count_file(m->file);
    put(m, 0, &m->header, sizeof(m->header));
    cr_assert_eq(0, qc_file_truncate(file, length));
    count_file_reset(m->file);
    return file;
}

/* ---- searching for data ------------------------------------------------------------------ */

/* As many L1 entries as there can be, step apart in the file, from 64 MiB on. */
static Made make_full_l1(unsigned bits, uint64_t step)
{
    unsigned shift = bits + bits - 3;
    Made m = make(bits, (uint64_t)MAX_ENTRIES << shift, 4 << 20, MAX_ENTRIES);
    put_words(&m, 4 << 20, MAX_ENTRIES, 64 * MIB, step);
    return m;
}

/* The disk has no data at all, and to say so takes little more than to read the L1 table. */
static void expect_no_data(Made *m, uint64_t length, uint64_t tables)
{
    Opened o = opened_new(finish(m, length), NULL);
    cr_expect_eq(qc_view_seek(o.view, 0, false), -ENXIO);
    cr_expect_eq(qc_view_seek(o.view, 0, true), 0);
    cr_expect_leq(m->file->bytes, QC_MAX_L1_BYTES + tables + 2 * MIB, "%lu bytes were read",
                  (unsigned long)m->file->bytes);
    opened_clear(&o);
    qc_file_unref(count_file(m->file));
}

Test(hostile, search_in_millions_of_entries_of_one_blank_table, .timeout = 300)
{
    Made m = make_full_l1(16, 0);
    g_autofree uint8_t *zeros = g_malloc0(m.cluster);
    put(&m, 64 * MIB, zeros, m.cluster); /* no hole */
    expect_no_data(&m, 65 * MIB, m.cluster);
}

Test(hostile, search_in_millions_of_entries_of_one_large_blank_table, .timeout = 300)
{
    Made m = make_full_l1(21, 0);
    g_autofree uint8_t *zeros = g_malloc0(m.cluster);
    put(&m, 64 * MIB, zeros, m.cluster);
    expect_no_data(&m, 66 * MIB, m.cluster);
}

/* Holes that lie next to each other are one to the file, which is asked once. */
Test(hostile, search_in_millions_of_tables_that_are_holes, .timeout = 300)
{
    Made m = make_full_l1(16, 64 * KIB);
    expect_no_data(&m, 64 * MIB + MAX_ENTRIES * 64 * KIB, 0);
}

/* Data behind all of that is found nevertheless. */
Test(hostile, search_finds_the_last_of_millions_of_entries, .timeout = 300)
{
    Made m = make_full_l1(16, 0);
    put_word(&m, (4 << 20) + (MAX_ENTRIES - 1) * 8, 65 * MIB);
    put_word(&m, 65 * MIB + 5 * 8, 66 * MIB);
    put(&m, 66 * MIB, "data", 4);
    Opened o = opened_new(finish(&m, 67 * MIB), NULL);
    uint64_t place = ((uint64_t)(MAX_ENTRIES - 1) << 29) + 5 * 64 * KIB;
    cr_expect_eq(qc_view_seek(o.view, 0, false), (int64_t)place);
    cr_expect_eq(qc_view_seek(o.view, place, true), (int64_t)(place + 64 * KIB));
    opened_clear(&o);
    qc_file_unref(count_file(m.file));
}

/*
 * A table that has entries, but none with data, cannot be skipped. The search ends nevertheless, by
 * calling data what it has not seen, and the next one goes on from there.
 */
Test(hostile, search_gives_up_where_nothing_can_be_skipped, .timeout = 300)
{
    Made m = make_full_l1(16, 0);
    for (uint64_t i = 0; i < m.cluster / 8; i += 2)
        put_word(&m, 64 * MIB + i * 8, QC_ZERO);
    Opened o = opened_new(finish(&m, 65 * MIB), NULL);
    int64_t first = qc_view_seek(o.view, 0, false),
            second = qc_view_seek(o.view, (uint64_t)first, false);
    cr_expect_gt(first, (int64_t)(100 * GIB), "%ld", (long)first);
    cr_expect_gt(second, first + (int64_t)(100 * GIB), "%ld", (long)second);
    opened_clear(&o);
    qc_file_unref(count_file(m.file));
}

/* The same for holes: every place is the same cluster of data. */
Test(hostile, search_for_a_hole_gives_up_at_the_end, .timeout = 300)
{
    Made m = make_full_l1(16, 0);
    put_words(&m, 64 * MIB, m.cluster / 8, 128 * MIB, 0);
    put(&m, 128 * MIB, "data", 4);
    Opened o = opened_new(finish(&m, 129 * MIB), NULL);
    cr_expect_eq(qc_view_seek(o.view, 0, true), (int64_t)qc_view_size(o.view));
    cr_expect_eq(qc_view_seek(o.view, 0, false), 0);
    opened_clear(&o);
    qc_file_unref(count_file(m.file));
}

/* ---- commands ----------------------------------------------------------------------------- */

static QcCheck check(const Opened *o)
{
    QcCheck result;
    g_autoptr(GError) error = NULL;
    cr_assert_eq(0, qc_image_check(o->image, NULL, &result, &error), "%s",
                 error ? error->message : "");
    return result;
}

/*
 * It is found to be broken, and no command changes it; at most so many bytes are read each time.
 * Wrong refcounts, but no more than that, can be repaired.
 */
static void expect_refused(Made *m, uint64_t length, uint64_t bytes, int repaired)
{
    QcFile *file = finish(m, length);
    Opened o = opened_new(file, NULL);
    QcCheck result = check(&o);
    cr_expect_gt(result.errors, 0);
    cr_expect_leq(m->file->bytes, bytes, "to check: %lu bytes", (unsigned long)m->file->bytes);

    count_file_reset(m->file);
    cr_expect_eq(qc_snapshot_take(o.image, "new", 0, NULL, NULL), -EUCLEAN);
    cr_expect_leq(m->file->bytes, bytes, "to take: %lu bytes", (unsigned long)m->file->bytes);
    opened_clear(&o);

    count_file_reset(m->file);
    o = opened_new(file, NULL);
    cr_expect_eq(m->file->writes, 0);
    cr_expect_eq(qc_image_repair(o.image, NULL, NULL, NULL), repaired);
    cr_expect_leq(m->file->bytes, bytes, "to repair: %lu bytes", (unsigned long)m->file->bytes);
    cr_expect_eq(m->file->writes == 0, repaired < 0);
    opened_clear(&o);
    qc_file_unref(file);
}

/* n bitmaps, each with a table of so many entries, step apart. */
static Made make_bitmaps(uint32_t n, uint32_t entries, uint64_t step)
{
    Made m = make(16, MIB, 3 * 64 * KIB, 1);
    QcDiskExtension extension = {be32_make(QC_EXT_BITMAPS), be32_make(sizeof(QcDiskBitmaps))};
    QcDiskBitmaps bitmaps = {.nb_bitmaps = be32_make(n),
                             .directory_size = be64_make(n * 32),
                             .directory_offset = be64_make(MIB)};
    m.header.autoclear_features = be64_make(QC_AUTOCLEAR_BITMAPS);
    put(&m, sizeof(m.header), &extension, sizeof(extension));
    put(&m, sizeof(m.header) + sizeof(extension), &bitmaps, sizeof(bitmaps));
    g_autofree uint8_t *directory = g_malloc0(n * 32);
    for (unsigned i = 0; i < n; i++) {
        QcDiskBitmapEntry d = {.table_offset = be64_make(64 * MIB + i * step),
                               .table_size = be32_make(entries),
                               .flags = be32_make(QC_BITMAP_IN_USE), /* of whatever size */
                               .type = 1,
                               .granularity_bits = 16,
                               .name_size = be16_make(8)};
        g_autofree char *name = g_strdup_printf("%08u", i);
        memcpy(directory + i * 32, &d, sizeof(d));
        memcpy(directory + i * 32 + sizeof(d), name, 8);
    }
    put(&m, MIB, directory, n * 32);
    /* Header, refcounts, L1 table, directory and the first 32 MiB of tables are counted. */
    put_words(&m, 2 * 64 * KIB, 2048 / 4, UINT64_C(0x0001000100010001), 0);
    return m;
}

enum {
    MOST = QC_MAX_BITMAP_BYTES / (64 * KIB), /* entries of a table that QEMU opens an image with */
};

Test(hostile, bitmaps_that_share_one_table, .timeout = 300)
{
    Made m = make_bitmaps(QC_MAX_BITMAPS, MOST, 0);
    put_words(&m, 64 * MIB, MOST, 0, 0); /* no hole */
    expect_refused(&m, 128 * MIB, 40 * MIB, -EUCLEAN);
}

Test(hostile, bitmaps_that_overlap, .timeout = 300)
{
    Made m = make_bitmaps(QC_MAX_BITMAPS, MAX_ENTRIES, 64 * KIB);
    expect_refused(&m, 64 * MIB + QC_MAX_BITMAPS * 64 * KIB + 32 * MIB, 8 * MIB, -EUCLEAN);
}

Test(hostile, bitmaps_with_tables_in_holes, .timeout = 300)
{
    enum { N = 8192 };
    Made m = make_bitmaps(N, MOST, 32 * MIB);
    expect_refused(&m, 64 * MIB + N * 32 * MIB, 8 * MIB, 0);
}

/* n snapshots, each with an L1 table of as many entries as there can be, step apart. */
static Made make_snapshots(unsigned bits, unsigned n, uint64_t step)
{
    enum { ENTRY = sizeof(QcDiskSnapshot) + 16 + 8 };
    Made m = make(bits, 64 * KIB, 3 * (UINT64_C(1) << bits), 8);
    g_autofree uint8_t *table = g_malloc0((size_t)n * ENTRY);
    for (unsigned i = 0; i < n; i++) {
        QcDiskSnapshot d = {.l1_table_offset = be64_make(64 * MIB + i * step),
                            .l1_size = be32_make(MAX_ENTRIES),
                            .id_size = be16_make(8),
                            .extra_data_size = be32_make(16)};
        be64 size = be64_make(MIB);
        g_autofree char *id = g_strdup_printf("%08u", i + 1);
        uint8_t *at = table + (size_t)i * ENTRY;
        memcpy(at, &d, sizeof(d));
        memcpy(at + sizeof(d) + 8, &size, sizeof(size));
        memcpy(at + sizeof(d) + 16, id, 8);
    }
    put(&m, 8 * MIB, table, (size_t)n * ENTRY);
    m.header.nb_snapshots = be32_make(n);
    m.header.snapshots_offset = be64_make(8 * MIB);
    return m;
}

/* 2 TiB of L1 tables, none of which is really there: more clusters than the format can count. */
Test(hostile, snapshots_with_tables_in_holes, .timeout = 300)
{
    Made m = make_snapshots(9, QC_MAX_SNAPSHOTS, 32 * MIB);
    expect_refused(&m, 64 * MIB + QC_MAX_SNAPSHOTS * 32 * MIB, 16 * MIB, -EUCLEAN);
}

/* Where they can be counted, that is all there is to repair. */
Test(hostile, snapshots_with_tables_in_holes_that_can_be_counted, .timeout = 300)
{
    enum { N = 8192 };
    Made m = make_snapshots(16, N, 32 * MIB);
    expect_refused(&m, 64 * MIB + N * 32 * MIB, 16 * MIB, 0);
}

/* An L1 table that all snapshots share is read once, and its L2 table too. */
Test(hostile, snapshots_that_share_one_table, .timeout = 300)
{
    Made m = make_snapshots(16, QC_MAX_SNAPSHOTS, 0);
    put_words(&m, 64 * MIB, MAX_ENTRIES, 128 * MIB, 0);
    put_words(&m, 128 * MIB, 64 * KIB / 8, 129 * MIB, 0);
    expect_refused(&m, 130 * MIB, 60 * MIB, -EUCLEAN);
}

/* Each entry of one L2 table lies where only another refcount block could count it. */
Test(hostile, references_that_would_need_a_refcount_block_each, .timeout = 300)
{
    Made m = make(16, GIB, 3 * 64 * KIB, 2);
    put_word(&m, 3 * 64 * KIB, 4 * 64 * KIB);
    put_words(&m, 4 * 64 * KIB, 8192, 2 * GIB, 2 * GIB);
    expect_refused(&m, 8193 * 2 * GIB, MIB, -EUCLEAN);
}
