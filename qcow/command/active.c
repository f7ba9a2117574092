/* active.c - see active.h. */
#include "active.h"
#include "entry.h"
#include "tree.h"
#include <errno.h>

typedef struct Fix {
    QcTxn *txn;
    uint64_t *l1;
    unsigned owners; /* L1 tables that will hold this array: a table that moves, moves in all */
} Fix;

/* Set the flags of one L2 table by the counts. 1 when one changed. */
static int fix_flags(const QcLayout *l, QcRefs *refs, uint8_t *table)
{
    unsigned size = qc_l2_entry_size(l);
    uint64_t n = qc_l2_entries(l);
    int changed = 0;
    for (uint64_t i = 0; i < n; i++) {
        QcCluster c = qc_cluster_decode(l, table + i * size);
        qc_refs_prefetch_use(refs, table, i);
        if (c.kind == QC_CLUSTER_BAD)
            return -EUCLEAN;
        if (c.host_offset == 0)
            continue;
        QcRefUse use;
        int err = qc_refs_use(refs, c.host_offset >> l->cluster_bits, &use);
        if (err < 0 || use == QC_REF_UNUSED)
            return err ? err : -EUCLEAN;
        bool copied = qc_cluster_is_copied(&c, use);
        if (copied == c.copied)
            continue;
        qc_cluster_set_copied(table + i * size, copied);
        changed = 1;
    }
    return changed;
}

/* Put a changed L2 table into a new cluster and let its owners point there. */
static int move_table(Fix *fix, uint32_t slot, uint64_t l2_offset, const uint8_t *table)
{
    const QcLayout *l = &fix->txn->image->header.layout;
    uint64_t cluster;
    int err = qc_refs_alloc(fix->txn->refs, 1, fix->owners, &cluster);
    for (unsigned i = 0; i < fix->owners && !err; i++)
        err = qc_refs_add(fix->txn->refs, l2_offset >> l->cluster_bits, 1, -1);
    if (err < 0)
        return err;
    fix->l1[slot] = cluster << l->cluster_bits;
    return qc_txn_put(fix->txn, fix->l1[slot], table, qc_cluster_size(l));
}

static int fix_table(void *data, uint32_t slot, uint64_t l2_offset, uint8_t *table)
{
    Fix *fix = data;
    if (!table)
        return 0;
    int changed = fix_flags(&fix->txn->image->header.layout, fix->txn->refs, table);
    return changed > 0 ? move_table(fix, slot, l2_offset, table) : changed;
}

int qc_active_fix_copied(QcTxn *txn, uint64_t *l1, uint32_t n, unsigned owners)
{
    Fix fix = {txn, l1, owners};
    const QcLayout *l = &txn->image->header.layout;
    int err = qc_tree_walk(txn->image, l1, n, fix_table, &fix);
    for (uint32_t i = 0; i < n && !err; i++) {
        uint64_t offset = l1[i] & QC_OFFSET_MASK;
        uint64_t count = qc_refs_get(txn->refs, offset >> l->cluster_bits);
        if (offset && count == 0)
            return -EUCLEAN;
        l1[i] = qc_l1_encode(offset, count);
    }
    return err;
}

int qc_active_write_l1(QcTxn *txn, const uint64_t *l1, uint32_t n, uint64_t *ret_offset)
{
    size_t bytes = n * sizeof(be64);
    *ret_offset = 0;
    if (n == 0)
        return 0;
    g_autofree be64 *disk = g_try_new(be64, n);
    if (!disk)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        disk[i] = be64_make(l1[i]);
    int err = qc_txn_alloc(txn, bytes, ret_offset);
    return err ? err : qc_txn_put_padded(txn, *ret_offset, disk, bytes);
}

int qc_active_replace_l1(QcTxn *txn, const uint64_t *l1, uint32_t n)
{
    const QcHeader *old = &txn->image->header;
    int err = qc_active_write_l1(txn, l1, n, &txn->next.l1_offset);
    if (!err)
        err = qc_txn_release(txn, old->l1_offset, old->l1_entries * sizeof(be64));
    txn->next.l1_entries = n;
    return err;
}

int qc_active_refresh(QcTxn *txn)
{
    const QcHeader *h = &txn->image->header;
    g_autofree uint64_t *l1 = NULL;
    int err = qc_l1_load(txn->image, h->l1_offset, h->l1_entries, &l1);
    if (!err)
        err = qc_active_fix_copied(txn, l1, h->l1_entries, 1);
    return err ? err : qc_active_replace_l1(txn, l1, h->l1_entries);
}
