/*
 * write.c - replacing guest bytes, as one transaction.
 *
 * Every cluster that is touched gets a new place, filled with the new bytes and, around
 * them, what the view has there; its L2 table moves too, and so does the L1 table. That is
 * slow for small writes and atomic for any: right for tools, not for a running guest.
 */
#include "active.h"
#include "entry.h"
#include "error.h"
#include "tree.h"
#include <string.h>

typedef struct Write {
    QcTxn *txn;
    QcView *view;
    const QcLayout *layout;
    const uint8_t *bytes;
    uint64_t offset, end; /* guest bytes to replace */
    uint64_t *l1;
    uint8_t *cluster; /* room for one */
    uint8_t *table;   /* and for one L2 table */
} Write;

/* The new contents of the guest cluster at start, in w->cluster. */
static int compose_cluster(Write *w, uint64_t start)
{
    uint64_t size = qc_cluster_size(w->layout);
    uint64_t from = MAX(start, w->offset), to = MIN(start + size, w->end);
    if (to - from < size) {
        memset(w->cluster, 0, size);
        ssize_t n = qc_view_read(w->view, w->cluster, size, start);
        if (n < 0)
            return (int)n;
    }
    memcpy(w->cluster + (from - start), w->bytes + (from - w->offset), to - from);
    return 0;
}

static int write_cluster(Write *w, uint64_t start, uint8_t *entry)
{
    uint64_t first, count, offset;
    QcCluster old;
    qc_cluster_decode(w->layout, entry, &old);
    if (old.kind == QC_CLUSTER_BAD)
        return -EUCLEAN;
    int err = compose_cluster(w, start);
    if (!err)
        err = qc_txn_alloc(w->txn, qc_cluster_size(w->layout), &offset);
    if (!err)
        err = qc_txn_put(w->txn, offset, w->cluster, qc_cluster_size(w->layout));
    if (err < 0)
        return err;
    qc_cluster_span(w->layout, &old, &first, &count);
    qc_cluster_encode_data(w->layout, entry, offset);
    return qc_refs_add(w->txn->refs, first, count, -1);
}

/* Read the L2 table of an L1 slot into w->table, and release it where it lies now. */
static int take_table(Write *w, uint64_t slot)
{
    uint64_t size = qc_cluster_size(w->layout), offset;
    int err = qc_l1_decode(w->layout, w->l1[slot], &offset);
    memset(w->table, 0, size);
    if (err < 0 || offset == 0)
        return err;
    err = qc_file_read(w->txn->image->file, w->table, size, offset);
    if (err < 0)
        return err == -ENODATA ? -EUCLEAN : err;
    return qc_txn_release(w->txn, offset, size);
}

/* Everything of the write that one L1 slot covers, from guest offset at on. */
static int write_slot(Write *w, uint64_t slot, uint64_t at)
{
    const QcLayout *l = w->layout;
    uint64_t end = MIN(w->end, (slot + 1) << qc_l1_shift(l)), offset;
    int err = take_table(w, slot);
    for (at -= qc_in_cluster(l, at); at < end && !err; at += qc_cluster_size(l))
        err = write_cluster(w, at, w->table + qc_l2_index(l, at) * qc_l2_entry_size(l));
    if (!err)
        err = qc_txn_alloc(w->txn, qc_cluster_size(l), &offset);
    if (err < 0)
        return err;
    w->l1[slot] = offset | QC_COPIED;
    return qc_txn_put(w->txn, offset, w->table, qc_cluster_size(l));
}

static int write_all(Write *w)
{
    const QcHeader *h = &w->txn->image->header;
    unsigned shift = qc_l1_shift(w->layout);
    int err = qc_l1_load(w->txn->image, h->l1_offset, h->l1_entries, &w->l1);
    w->cluster = g_try_malloc(qc_cluster_size(w->layout));
    w->table = g_try_malloc(qc_cluster_size(w->layout));
    if (!err && (!w->cluster || !w->table))
        err = -ENOMEM;
    for (uint64_t at = w->offset; at < w->end && !err; at = ((at >> shift) + 1) << shift)
        err = write_slot(w, at >> shift, at);
    if (!err)
        err = qc_active_replace_l1(w->txn, w->l1, h->l1_entries);
    g_free(w->l1);
    g_free(w->cluster);
    g_free(w->table);
    return err;
}

int qc_image_write(QcImage *image, QcChain *chain, const void *buf, size_t len, uint64_t offset,
                   QcRun *run, GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    uint64_t size = image->info.virtual_size;
    if (offset > size || len > size - offset || len == 0)
        return qc_fail(error, -EINVAL, "the range to write is empty or not inside the disk");
    if (image->header.has_bitmaps)
        return qc_fail(error, -EOPNOTSUPP, "the image has persistent bitmaps");
    int err = qc_txn_begin_part(image, run, &txn, error);
    if (err < 0)
        return err;
    Write w = {.txn = txn,
               .view = qc_chain_view(chain, 0),
               .layout = &image->header.layout,
               .bytes = buf,
               .offset = offset,
               .end = offset + len};
    err = write_all(&w);
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}
