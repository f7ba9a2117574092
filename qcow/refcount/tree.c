/* tree.c - see tree.h. */
#include "tree.h"
#include "batch.h"
#include "entry.h"
#include "sparse.h"
#include "spread.h"
#include <errno.h>

static int keep_entry(void *data, uint32_t index, uint64_t word)
{
    uint64_t *l1 = data;
    l1[index] = word;
    return 0;
}

int qc_l1_load(QcImage *image, uint64_t offset, uint32_t n, uint64_t **ret)
{
    g_autofree uint64_t *l1 = g_try_new0(uint64_t, MAX(n, 1));
    if (!l1)
        return -ENOMEM;
    int err = qc_sparse_read(image->file, offset, n, keep_entry, l1);
    if (!err)
        *ret = g_steal_pointer(&l1);
    return err;
}

typedef struct Walk {
    QcTreeFunc func;
    void *data;
} Walk;

static int walk_table(void *data, const QcBatchItem *item, uint8_t *table)
{
    Walk *w = data;
    return w->func(w->data, item->tag, item->offset, table);
}

int qc_tree_walk(QcImage *image, const uint64_t *l1, uint32_t n, QcMeter *meter, QcTreeFunc func,
                 void *data)
{
    const QcLayout *l = &image->header.layout;
    Walk walk = {func, data};
    size_t used = 0;
    for (uint32_t i = 0; i < n; i++)
        used += l1[i] != 0;
    g_autofree QcBatchItem *items = g_try_new(QcBatchItem, MAX(used, 1));
    if (!items)
        return -ENOMEM;
    used = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset;
        int err = qc_l1_decode_strictly(l, l1[i], &offset);
        if (err < 0)
            return err;
        if (offset)
            items[used++] = (QcBatchItem){.offset = offset, .tag = i};
    }
    return qc_batch_read(image, items, used, meter, walk_table, &walk);
}

typedef struct Account {
    const QcLayout *layout;
    QcRefs *refs;
    QcSpread *spread; /* of rows and single clusters */
    int delta;
} Account;

static int account_row(void *data, uint64_t first, uint64_t count, uint32_t tag)
{
    Account *a = data;
    (void)tag;
    return qc_refs_add(a->refs, first, count, a->delta);
}

static int account_table(void *data, uint32_t slot, uint64_t l2_offset, uint8_t *table)
{
    (void)slot;
    Account *a = data;
    const QcLayout *l = a->layout;
    int err = qc_refs_add(a->refs, l2_offset >> l->cluster_bits, 1, a->delta);
    uint64_t n = qc_l2_entries(l);
    for (uint64_t i = 0, row; table && i < n && !err; i += row) {
        QcCluster c;
        row = qc_cluster_decode_row(l, table + i * qc_l2_entry_size(l), n - i, &c);
        uint64_t first, count;
        if (c.kind == QC_CLUSTER_BAD)
            return -EUCLEAN;
        qc_cluster_span(l, &c, &first, &count);
        err = count == 1 ? qc_spread_add(a->spread, first, row, 0)
                         : qc_refs_add(a->refs, first, count, a->delta);
    }
    return err;
}

int qc_tree_account(QcImage *image, QcRefs *refs, const uint64_t *l1, uint32_t n, int delta,
                    QcMeter *meter)
{
    const QcLayout *l = &image->header.layout;
    Account a = {.layout = l, .refs = refs, .delta = delta};
    int err =
        qc_spread_new(refs, qc_clusters_for(l, image->info.stat.size), account_row, &a, &a.spread);
    if (!err)
        err = qc_tree_walk(image, l1, n, meter, account_table, &a);
    if (!err)
        err = qc_spread_flush(a.spread);
    qc_spread_free(a.spread);
    return err;
}
