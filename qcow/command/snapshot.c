/*
 * snapshot.c - the commands: take, revert, delete, rename.
 *
 * A snapshot is an L1 table of its own and an entry in the snapshot table; everything
 * beneath is shared with the active disk and other snapshots, and counted. Each command is
 * the same four moves inside a transaction: count the references that come and go, set the
 * COPIED flags of the active tree right (copying the L2 tables that change), write the L1
 * and snapshot tables that are new, release the old ones.
 */
#include "active.h"
#include "error.h"
#include "snapwrite.h"
#include "tree.h"
#include <stdlib.h>
#include <string.h>

/* ---- names and ids ---------------------------------------------------------------------- */

static int check_name(const QcImage *image, const char *name, GError **error)
{
    size_t len = strlen(name);
    if (len == 0)
        return qc_fail(error, -EINVAL, "a snapshot needs a name");
    if (len > QC_MAX_SNAPSHOT_NAME)
        return qc_fail(error, -ENAMETOOLONG, "a snapshot's name has at most %u bytes",
                       QC_MAX_SNAPSHOT_NAME);
    for (unsigned i = 0; i < image->info.n_snapshots; i++) {
        const QcSnapshot *s = &image->info.snapshots[i];
        if (s->name_len == len && memcmp(s->name, name, len) == 0)
            return qc_fail(error, -EEXIST, "this image already has a snapshot of that name");
    }
    return 0;
}

/* One more than the highest number that is an id. */
static int next_id(const QcImage *image, char *ret, size_t room, GError **error)
{
    uint64_t highest = 0;
    for (unsigned i = 0; i < image->info.n_snapshots; i++) {
        const char *id = image->info.snapshots[i].id;
        if (g_ascii_isdigit(*id)) /* "-1" is no number that anything could follow */
            highest = MAX(highest, strtoull(id, NULL, 10));
    }
    if (highest == UINT64_MAX)
        return qc_fail(error, -EFBIG, "the snapshots' ids have reached the highest number");
    g_snprintf(ret, (gulong)room, "%" G_GUINT64_FORMAT, highest + 1);
    return 0;
}

/* Begin a transaction on a snapshot that has to exist. */
static int begin_on(QcImage *image, unsigned snapshot, QcRun *run, QcTxn **ret, GError **error)
{
    int err = qc_txn_begin(image, run, ret, error);
    if (!err && snapshot >= image->info.n_snapshots)
        err = qc_fail(error, -ENOENT, "there is no such snapshot");
    return err;
}

/* The references of a tree come (1) or go (-1). */
static int account(QcTxn *txn, const uint64_t *l1, uint32_t n, int delta)
{
    return qc_tree_account(txn->image, txn->refs, l1, n, delta, &txn->meter);
}

/* With 1-bit refcounts nothing can be shared. */
static int check_can_share(const QcImage *image, GError **error)
{
    if (image->info.format == QC_FORMAT_QCOW2 && image->info.refcount_bits == 1)
        return qc_fail(error, -EOPNOTSUPP,
                       "this image has refcounts of 1 bit, and cannot have snapshots; "
                       "qemu-img convert -O qcow2 makes one that can");
    return 0;
}

/* ---- take ------------------------------------------------------------------------------- */

static int take_tree(QcTxn *txn, QcSnapshot *s)
{
    QcImage *image = txn->image;
    const QcHeader *h = &image->header;
    g_autofree uint64_t *l1 = NULL;
    uint32_t n = (uint32_t)qc_l1_entries_for(&h->layout, h->size); /* without VM state */
    int err = qc_l1_load(image, h->l1_offset, h->l1_entries, &l1);
    if (!err)
        err = account(txn, l1, n, 1);
    if (!err)
        err = qc_active_fix_copied(txn, l1, n, 2);
    if (!err)
        err = qc_active_fix_copied(txn, l1 + n, h->l1_entries - n, 1);
    if (!err)
        err = qc_active_write_l1(txn, l1, n, &s->l1_offset);
    if (!err)
        err = qc_active_replace_l1(txn, l1, h->l1_entries);
    s->l1_entries = n;
    return err;
}

int qc_snapshot_take(QcImage *image, const char *name, int64_t now_ns, QcRun *run, GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    char id[QC_NEW_ID_BYTES];
    int err = check_can_share(image, error);
    if (!err)
        err = qc_txn_begin(image, run, &txn, error);
    if (!err)
        err = check_name(image, name, error);
    if (!err)
        err = next_id(image, id, sizeof(id), error);
    if (err < 0)
        return err;
    if (image->info.n_snapshots >= QC_MAX_SNAPSHOTS)
        return qc_fail(error, -EFBIG, "an image has at most %u snapshots", QC_MAX_SNAPSHOTS);
    if (now_ns < 0 || now_ns / QC_NS_PER_SECOND > UINT32_MAX)
        return qc_fail(error, -EINVAL, "a snapshot's date lies between 1970 and 2106");

    QcSnapshot s = {
        .id = id,
        .name = name,
        .name_len = strlen(name),
        .disk_size = image->info.virtual_size,
        .date_sec = now_ns / QC_NS_PER_SECOND,
        .date_nsec = (uint32_t)(now_ns % QC_NS_PER_SECOND),
        .icount = UINT64_MAX,
    };
    err = take_tree(txn, &s);
    if (!err)
        err = qc_snapshots_replace(txn, &(QcTableEdit){.added = &s});
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}

/* ---- revert ----------------------------------------------------------------------------- */

/* Empty the slots in which both arrays point at the same L2 table. */
static void drop_common(uint64_t *a, uint32_t n_a, uint64_t *b, uint32_t n_b)
{
    for (uint32_t i = 0; i < n_a && i < n_b; i++) {
        if ((a[i] & QC_OFFSET_MASK) != (b[i] & QC_OFFSET_MASK))
            continue;
        a[i] = b[i] = 0;
    }
}

/* References of the active disk go, those of the target come; what both share stays. */
static int exchange_references(QcTxn *txn, uint64_t *old, uint32_t n_old, const uint64_t *target,
                               uint32_t n)
{
    g_autofree uint64_t *new = g_try_new(uint64_t, MAX(n, 1));
    if (!new)
        return -ENOMEM;
    memcpy(new, target, n * sizeof(*new));
    drop_common(old, n_old, new, n);
    int err = account(txn, old, n_old, -1);
    return err ? err : account(txn, new, n, 1);
}

static int revert_tree(QcTxn *txn, const QcSnapshot *s)
{
    QcImage *image = txn->image;
    const QcHeader *h = &image->header;
    g_autofree uint64_t *active = NULL, *stored = NULL;
    uint32_t n = (uint32_t)qc_l1_entries_for(&h->layout, s->disk_size); /* without VM state */
    g_autofree uint64_t *target = g_try_new(uint64_t, MAX(n, 1));
    int err = target ? qc_l1_load(image, h->l1_offset, h->l1_entries, &active) : -ENOMEM;
    if (!err)
        err = qc_l1_load(image, s->l1_offset, s->l1_entries, &stored);
    if (err < 0)
        return err;
    memcpy(target, stored, n * sizeof(*target));

    err = exchange_references(txn, active, h->l1_entries, target, n);
    if (!err)
        err = qc_active_fix_copied(txn, target, n, 1);
    if (!err)
        err = qc_active_replace_l1(txn, target, n);
    txn->next.size = s->disk_size;
    return err;
}

/*
 * A snapshot that does not state its size would be resized along with the disk. In version 3 it
 * states it by then: what is incomplete there gets it.
 */
static bool resizes_another(const QcImage *image, unsigned snapshot)
{
    const QcInfo *info = &image->info;
    if (info->version >= 3 || info->snapshots[snapshot].disk_size == info->virtual_size)
        return false;
    for (unsigned i = 0; i < info->n_snapshots; i++)
        if (!info->snapshots[i].size_stated)
            return true;
    return false;
}

/* Whether its L1 table is as long as its disk. No check finds fault with a shorter one: what that
 * does not map reads as zeros. But the active disk cannot have it. */
static bool has_whole_table(const QcImage *image, unsigned snapshot)
{
    const QcSnapshot *s = &image->info.snapshots[snapshot];
    return qc_l1_entries_for(&image->header.layout, s->disk_size) <= s->l1_entries;
}

int qc_snapshot_revert(QcImage *image, unsigned snapshot, QcRun *run, GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    int err = begin_on(image, snapshot, run, &txn, error);
    if (err < 0)
        return err;
    if (image->header.has_bitmaps)
        return qc_fail(error, -EOPNOTSUPP,
                       "the image has persistent bitmaps, which a revert would make wrong; remove "
                       "them first: qemu-img bitmap --remove IMAGE BITMAP");
    if (resizes_another(image, snapshot))
        return qc_fail(error, -EOPNOTSUPP,
                       "the revert would resize the disk, and a snapshot that does not state its "
                       "own size with it");
    if (!has_whole_table(image, snapshot))
        return qc_fail(error, -EOPNOTSUPP,
                       "the snapshot states a larger disk than its L1 table can map; nothing was "
                       "changed; what it holds can be copied from its file");
    err = revert_tree(txn, &image->info.snapshots[snapshot]);
    if (!err)
        err = qc_snapshots_complete(txn);
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}

/* ---- delete ----------------------------------------------------------------------------- */

static int delete_tree(QcTxn *txn, const QcSnapshot *s)
{
    QcImage *image = txn->image;
    const QcHeader *h = &image->header;
    g_autofree uint64_t *active = NULL, *stored = NULL;
    int err = qc_l1_load(image, h->l1_offset, h->l1_entries, &active);
    if (!err)
        err = qc_l1_load(image, s->l1_offset, s->l1_entries, &stored);
    if (!err)
        err = account(txn, stored, s->l1_entries, -1);
    if (!err)
        err = qc_txn_release(txn, s->l1_offset, s->l1_entries * sizeof(be64));
    if (!err)
        err = qc_active_fix_copied(txn, active, h->l1_entries, 1);
    if (!err)
        err = qc_active_replace_l1(txn, active, h->l1_entries);
    return err;
}

int qc_snapshot_delete(QcImage *image, unsigned snapshot, QcRun *run, GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    int err = begin_on(image, snapshot, run, &txn, error);
    if (err < 0)
        return err;
    err = delete_tree(txn, &image->info.snapshots[snapshot]);
    if (!err)
        err = qc_snapshots_replace(txn, &(QcTableEdit){.index = snapshot, .drop = true});
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}

/* ---- rename ----------------------------------------------------------------------------- */

int qc_snapshot_rename(QcImage *image, unsigned snapshot, const char *name, QcRun *run,
                       GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    int err = begin_on(image, snapshot, run, &txn, error);
    if (!err)
        err = check_name(image, name, error);
    if (err < 0)
        return err;
    err = qc_active_refresh(txn); /* the flags are right after each command */
    if (!err)
        err = qc_snapshots_replace(txn, &(QcTableEdit){.index = snapshot, .new_name = name});
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}
