/* flags.c - see flags.h. */
#include "flags.h"
#include "entry.h"

/* n entries from index on. */
static void note_wrong(QcFlags *flags, uint64_t index, uint64_t n)
{
    if (flags->wrong == 0)
        flags->first = index;
    flags->wrong += n;
}

/* The use of a cluster, and of how many of a row from there on it is the same. -ENOMEM. */
static int use_of_row(QcRefs *refs, uint64_t first, uint64_t *row, QcRefUse *ret)
{
    if (*row >= QC_LONG_ROW) {
        *row = qc_refs_same_use(refs, first, *row, ret);
        return 0;
    }
    *row = 1;
    return qc_refs_use(refs, first, ret);
}

/* Set the flags of a row of entries, of which entry i is the first and decoded. It is decoded once,
 * however often the use changes in it: else a long row would take the square of its length. */
static int set_row(const QcLayout *l, QcRefs *refs, uint8_t *table, uint64_t i, uint64_t row,
                   const QcCluster *c, QcFlags *flags)
{
    unsigned size = qc_l2_entry_size(l);
    uint64_t cluster = c->host_offset >> l->cluster_bits;
    for (uint64_t end = i + row, same; i < end; i += same, cluster += same) {
        QcRefUse use;
        same = end - i;
        qc_refs_prefetch_use(refs, table, i);
        int err = use_of_row(refs, cluster, &same, &use);
        if (err < 0)
            return err;
        if (use == QC_REF_UNUSED)
            flags->broken = true;
        bool copied = use == QC_REF_SINGLE && c->kind != QC_CLUSTER_COMPRESSED;
        if (copied == c->copied)
            continue;
        for (uint64_t k = i; k < i + same; k++)
            qc_cluster_set_copied(table + k * size, copied);
        note_wrong(flags, i, same);
    }
    return 0;
}

int qc_flags_set_l2(const QcLayout *l, QcRefs *refs, uint8_t *table, QcFlags *ret)
{
    uint64_t n = qc_l2_entries(l);
    QcFlags flags = {0};
    int err = 0;
    for (uint64_t i = 0, row; i < n && !err; i += row) {
        QcCluster c;
        row = qc_cluster_decode_row(l, table + i * qc_l2_entry_size(l), n - i, &c);
        if (c.kind == QC_CLUSTER_BAD)
            flags.broken = true;
        if (c.host_offset != 0) /* it is 0 in those that are broken */
            err = set_row(l, refs, table, i, row, &c, &flags);
    }
    if (!err)
        *ret = flags;
    return err;
}

QcFlags qc_flags_set_l1(const QcLayout *l, const QcRefs *refs, uint64_t *l1, uint32_t n)
{
    QcFlags flags = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = l1[i] & QC_OFFSET_MASK;
        uint64_t count = qc_refs_get(refs, offset >> l->cluster_bits);
        bool copied = count == 1;
        if (offset == 0)
            continue;
        flags.broken |= count == 0;
        if (copied == ((l1[i] & QC_COPIED) != 0))
            continue;
        l1[i] ^= QC_COPIED;
        note_wrong(&flags, i, 1);
    }
    return flags;
}
