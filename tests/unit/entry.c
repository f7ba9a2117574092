/* L1 and L2 entries: what each bit pattern means, and that nothing invalid passes. */
#include "entry.h"
#include <criterion/criterion.h>
#include <errno.h>

static const QcLayout v2 = {.version = 2, .cluster_bits = 16, .refcount_order = 4};
static const QcLayout v3 = {.version = 3, .cluster_bits = 16, .refcount_order = 4};
static const QcLayout ext = {.version = 3, .cluster_bits = 16, .extended_l2 = true};

static QcCluster decode(const QcLayout *l, uint64_t word, uint64_t bitmap)
{
    be64 raw[2] = {be64_make(word), be64_make(bitmap)};
    QcCluster c;
    qc_cluster_decode(l, raw[0].b, &c);
    return c;
}

Test(entry, standard_entries)
{
    static const struct {
        const QcLayout *layout;
        uint64_t word;
        QcClusterKind kind;
        uint64_t offset;
        bool copied;
    } cases[] = {
        {&v3, 0, QC_CLUSTER_UNALLOCATED, 0, false},
        {&v3, 0x8000000000050000, QC_CLUSTER_DATA, 0x50000, true},
        {&v3, 0x0000000000050000, QC_CLUSTER_DATA, 0x50000, false},
        {&v3, 0x00ffffffffff0000, QC_CLUSTER_DATA, 0x00ffffffffff0000, false},
        {&v3, 0x0000000000000001, QC_CLUSTER_ZERO, 0, false},
        {&v3, 0x8000000000050001, QC_CLUSTER_ZERO, 0x50000, true},
        {&v2, 0x0000000000000001, QC_CLUSTER_BAD, 0, false}, /* version 2 knows no zero flag */
        {&v3, 0x0000000000050200, QC_CLUSTER_BAD, 0, false}, /* not a cluster's offset */
        {&v3, 0x0100000000050000, QC_CLUSTER_BAD, 0, false}, /* reserved, high */
        {&v3, 0x0000000000050002, QC_CLUSTER_BAD, 0, false}, /* reserved, low */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcCluster c = decode(cases[i].layout, cases[i].word, 0);
        cr_expect_eq(c.kind, cases[i].kind, "case %zu", i);
        cr_expect_eq(c.host_offset, cases[i].offset, "case %zu", i);
        cr_expect_eq(c.copied, cases[i].copied, "case %zu", i);
    }
}

Test(entry, compressed_entries)
{
    /* 64 KiB clusters: 54 bits of offset, then 8 of sectors. */
    QcCluster c = decode(&v3, QC_COMPRESSED | UINT64_C(2) << 54 | 0x12345, 0);
    cr_expect_eq(c.kind, QC_CLUSTER_COMPRESSED);
    cr_expect_eq(c.host_offset, 0x12345);
    cr_expect_eq(c.host_length, 3 * 512 - 0x145);
    uint64_t first, count;
    qc_cluster_span(&v3, &c, &first, &count);
    cr_expect_eq(first, 1);
    cr_expect_eq(count, 1);

    c = decode(&v3, QC_COMPRESSED | UINT64_C(1) << 54 | 0x1ffff, 0); /* into the next cluster */
    qc_cluster_span(&v3, &c, &first, &count);
    cr_expect_eq(first, 1);
    cr_expect_eq(count, 2);

    cr_expect_eq(decode(&v3, QC_COMPRESSED, 0).kind, QC_CLUSTER_BAD, "offset 0 is the header");
    QcLayout tiny = {.version = 3, .cluster_bits = 9};
    c = decode(&tiny, QC_COMPRESSED | UINT64_C(1) << 61 | 0x401, 0);
    cr_expect_eq(c.kind, QC_CLUSTER_COMPRESSED);
    cr_expect_eq(c.host_length, 1023);
    cr_expect_eq(decode(&tiny, QC_COMPRESSED | UINT64_C(1) << 60, 0).kind, QC_CLUSTER_BAD,
                 "an offset beyond 2^56");
}

Test(entry, extended_entries)
{
    QcCluster c = decode(&ext, 0x50000, UINT64_C(0x0000ff00000000ff));
    cr_expect_eq(c.kind, QC_CLUSTER_DATA);
    cr_expect(c.has_subclusters);
    cr_expect_eq(c.subclusters_allocated, 0xff);
    cr_expect_eq(c.subclusters_zero, 0xff00);
    c = decode(&ext, 0, UINT64_C(0xf) << 32);
    cr_expect_eq(c.kind, QC_CLUSTER_UNALLOCATED);
    cr_expect_eq(c.subclusters_zero, 0xf);
    cr_expect_eq(decode(&ext, 0x50000, UINT64_C(0x100000001)).kind, QC_CLUSTER_BAD, "both bits");
    cr_expect_eq(decode(&ext, 0, 1).kind, QC_CLUSTER_BAD, "allocated nowhere");
    cr_expect_eq(decode(&ext, 0x50001, 1).kind, QC_CLUSTER_BAD, "the zero flag has no place here");
    cr_expect_eq(decode(&ext, 0x50200, 1).kind, QC_CLUSTER_BAD, "no cluster's offset");
    c = decode(&ext, QC_COMPRESSED | 0x12345, UINT64_MAX);
    cr_expect_eq(c.kind, QC_CLUSTER_COMPRESSED, "the bitmap is ignored");
    cr_expect_not(c.has_subclusters);
}

/* How many of these entries (up to the first of all ones) are a row. */
static uint64_t row_of(const QcLayout *l, const uint64_t *words)
{
    be64 raw[16];
    uint64_t n = 0;
    QcCluster all, one;

    for (; words[n] != UINT64_MAX; n++)
        raw[n] = be64_make(words[n]);
    uint64_t row = qc_cluster_decode_row(l, raw[0].b, n, &all);
    qc_cluster_decode(l, raw[0].b, &one);
    cr_expect_eq(all.kind, one.kind);
    cr_expect_eq(all.host_offset, one.host_offset);
    cr_expect_eq(all.copied, one.copied);
    for (uint64_t fewer = 1; fewer < n; fewer++) /* what lies behind them does not matter */
        cr_expect_eq(qc_cluster_decode_row(l, raw[0].b, fewer, &all), MIN(row, fewer));
    return row;
}

#define ROW_OF(l, ...) row_of(l, (uint64_t[]){__VA_ARGS__, UINT64_MAX})

Test(entry, rows)
{
    const uint64_t copied = QC_COPIED, last = 0x00ffffffffff0000;

    cr_expect_eq(ROW_OF(&v3, 0x50000), 1);
    cr_expect_eq(ROW_OF(&v3, 0x50000, 0x60000, 0x70000), 3);
    cr_expect_eq(ROW_OF(&v3, 0x50000, 0x60000, 0x80000), 2, "a gap");
    cr_expect_eq(ROW_OF(&v3, 0x50000, 0x50000), 1, "the same once more");
    cr_expect_eq(ROW_OF(&v3, 0x50000, 0x40000), 1, "backwards");
    cr_expect_eq(ROW_OF(&v3, copied | 0x50000, copied | 0x60000, 0x70000), 2, "other flags");
    cr_expect_eq(ROW_OF(&v3, 0x50001, 0x60001, 0x70000), 2, "zeros, then not");
    cr_expect_eq(ROW_OF(&v3, 0, 0, 0, 0x10000), 3, "nothing, then something");
    cr_expect_eq(ROW_OF(&v3, 1, 1, 0), 2, "zeros without a cluster");
    cr_expect_eq(ROW_OF(&v3, 0, 0x10000), 1, "nothing, and what would follow on 0");
    cr_expect_eq(ROW_OF(&v3, last, last + 0x10000), 1, "past the last offset");
    cr_expect_eq(ROW_OF(&v3, last - 0x10000, last, last + 0x10000), 2, "past the last offset");
    cr_expect_eq(ROW_OF(&v3, last, 0), 1, "past the last offset, without what does not fit");
    cr_expect_eq(ROW_OF(&v3, 0x50200, 0x60200), 1, "broken ones");
    cr_expect_eq(ROW_OF(&v3, 0x50002, 0x60002), 1, "broken ones");
    cr_expect_eq(ROW_OF(&v3, QC_COMPRESSED | 0x50000, QC_COMPRESSED | 0x60000), 1);
    cr_expect_eq(ROW_OF(&ext, 0x50000, 1, 0x60000, 1), 1, "with subclusters");
    cr_expect_eq(ROW_OF(&ext, 0x50000, 0x60000), 1, "a bitmap that looks like an entry");
}

Test(entry, l1_entries)
{
    uint64_t offset = 7;
    cr_expect_eq(qc_l1_decode(&v3, 0, &offset), 0);
    cr_expect_eq(offset, 0);
    cr_expect_eq(qc_l1_decode(&v3, 0x8000000000030000, &offset), 0);
    cr_expect_eq(offset, 0x30000);
    cr_expect_neq(qc_l1_decode(&v3, 0x30200, &offset), 0);
    cr_expect_neq(qc_l1_decode(&v3, 0x4000000000030000, &offset), 0);
    cr_expect_neq(qc_l1_decode(&v3, 0x30001, &offset), 0);
    cr_expect_eq(offset, 0x30000, "untouched on failure");
}

Test(entry, l1_entries_of_nothing)
{
    uint64_t offset = 7;
    cr_expect_eq(qc_l1_decode(&v3, QC_COPIED, &offset), 0, "to a reader");
    cr_expect_eq(offset, 0);
    cr_expect_eq(qc_l1_decode_strictly(&v3, QC_COPIED, &offset), -EUCLEAN);
    cr_expect_eq(qc_l1_decode_strictly(&v3, 0, &offset), 0);
    cr_expect_eq(offset, 0);
    cr_expect_eq(qc_l1_decode_strictly(&v3, 0x8000000000030000, &offset), 0);
    cr_expect_eq(offset, 0x30000);
    cr_expect_eq(qc_l1_decode_strictly(&v3, 0x30200, &offset), -EUCLEAN);
}

Test(entry, encoding)
{
    be64 raw[2];
    qc_cluster_encode_data(&ext, raw[0].b, 0x70000);
    cr_expect_eq(be64_get(raw[0]), 0x8000000000070000);
    cr_expect_eq(be64_get(raw[1]), 0xffffffff);
    qc_cluster_set_copied(raw[0].b, false);
    cr_expect_eq(be64_get(raw[0]), 0x70000);
    qc_cluster_set_copied(raw[0].b, true);
    cr_expect_eq(be64_get(raw[0]), 0x8000000000070000);
}
