/* active.c - see active.h. */
#include "active.h"
#include "flags.h"
#include "tree.h"
#include <errno.h>

typedef struct Fix {
    QcTxn *txn;
    uint64_t *l1;
    unsigned owners; /* L1 tables that will hold this array: a table that moves, moves in all */
} Fix;

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
    QcFlags was;
    if (!table)
        return 0;
    int err = qc_flags_set_l2(&fix->txn->image->header.layout, fix->txn->refs, table, &was);
    if (err < 0 || was.broken)
        return err ? err : -EUCLEAN;
    return was.wrong > 0 ? move_table(fix, slot, l2_offset, table) : 0;
}

int qc_active_fix_copied(QcTxn *txn, uint64_t *l1, uint32_t n, unsigned owners)
{
    Fix fix = {txn, l1, owners};
    int err = qc_tree_walk(txn->image, l1, n, &txn->meter, fix_table, &fix);
    if (err < 0)
        return err;
    return qc_flags_set_l1(&txn->image->header.layout, txn->refs, l1, n).broken ? -EUCLEAN : 0;
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
