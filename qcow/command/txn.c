/*
 * txn.c - see txn.h.
 *
 * The steps of every command:
 *   1. sync, so that the file's holes are what they seem; load the refcounts and verify that
 *      they protect all that the tables refer to; take them as counted where the image was not
 *      closed cleanly, or has lost space
 *   2. before the first byte is written: write the first sector as it was read, and sync. What
 *      was read may be younger than what is on disk, and that may still need clusters which are
 *      free in what was read
 *   3. the command: count references, write new tables to free clusters
 *   4. place and write the refcount blocks that changed, and the refcount table
 *   5. sync: everything the new header will point at is on disk
 *   6. switch: one pwrite of the first sector
 *   7. sync: the new header is on disk
 * A failure up to 5 leaves the image as it was. After one in 6 or 7 the old sector is put back,
 * and synced; when that fails too, it is not known which of the two is on disk.
 */
#include "txn.h"
#include "count.h"
#include "error.h"
#include "staleness.h"
#include "tally.h"
#include <string.h>
#include <sys/stat.h>

enum {
    PENDING_MAX = 1 << 20,
};

int qc_txn_fail(int err, GError **error)
{
    switch (err) {
    case -EUCLEAN:
        return qc_fail(error, err,
                       "the image is corrupt (its tables and refcounts contradict each other); "
                       "nothing was changed; see qemu-img check");
    case -ENOSPC:
        return qc_fail(error, err,
                       "no room for the new tables: the file system or the device is full, or the "
                       "length of files is limited (ulimit -f)");
    case -EBUSY:
        return qc_fail(error, err, "the image was changed by a program that ignores its locks");
    case -EFBIG:
        return qc_fail(error, err,
                       "a limit of the image's format is reached (refcount width or table size)");
    default:
        return qc_fail(error, err, "%s", g_strerror(-err));
    }
}

/* ---- beginning -------------------------------------------------------------------------- */

static int refuse(const QcImage *image, bool repair, GError **error)
{
    const QcInfo *info = &image->info;
    if (info->format != QC_FORMAT_QCOW2)
        return qc_fail(error, -EOPNOTSUPP, "raw images cannot have snapshots");
    if (qc_image_unsupported(image))
        return qc_fail(error, -EOPNOTSUPP, "%s", qc_image_unsupported(image));
    if (image->spent)
        return qc_fail(error, -EINVAL, "the image must be opened again");
    if (info->corrupt && !repair)
        return qc_fail(error, -EUCLEAN,
                       "the image is marked corrupt; nothing is changed before "
                       "it is repaired");
    return 0;
}

/*
 * The references as the tables say, when these say it without contradiction; and where stored
 * is given, when no stored refcount is lower: what it does not protect would be given out. findings
 * begins as zeros; of what is found, leaks are no contradiction.
 */
static int count_refs(QcTxn *txn, const QcRefs *stored, QcCheck *findings, QcRefs **ret,
                      GError **error)
{
    g_autoptr(QcRefs) counted = NULL;
    int err = qc_count_references(txn->image, stored, &txn->meter, findings, &counted);
    if (err < 0)
        return qc_txn_fail(err, error);
    if (stored)
        qc_tally_compare(stored, counted, findings);
    if (findings->errors > 0)
        return qc_fail(error, -EUCLEAN, "the image is corrupt and nothing was changed: %s",
                       findings->first);
    *ret = g_steal_pointer(&counted);
    return 0;
}

/* The refcounts as they should be, to be written whole. */
static int renew_refs(QcTxn *txn, GError **error)
{
    QcCheck findings = {0};
    int err = count_refs(txn, NULL, &findings, &txn->refs, error);
    if (err < 0)
        return err;
    err = qc_tally_renew(txn->refs);
    return err ? qc_txn_fail(err, error) : 0;
}

/*
 * Whether clusters that no known table refers to are lost for sure: what a header says that is not
 * known might refer to them.
 */
static bool knows_all(const QcHeader *h)
{
    return !h->has_unknown_extensions && !(h->autoclear & ~QC_AUTOCLEAR_KNOWN) &&
           !(h->compatible & ~QC_COMPAT_KNOWN) && h->header_length <= sizeof(QcDiskHeader);
}

/* When counts that are too high are made right, besides in a dirty image. */
typedef enum Recount {
    RECOUNT_NEVER,
    RECOUNT_LEAKS, /* where that can be told */
    RECOUNT_ALWAYS,
} Recount;

/* The refcounts as they are stored, when they protect all that the tables refer to. */
static int load_refs(QcTxn *txn, bool give_back, GError **error)
{
    g_autoptr(QcRefs) counted = NULL;
    QcCheck findings = {0};
    int err = qc_refs_load(txn->image, &txn->meter, &txn->refs, error);
    if (!err)
        err = count_refs(txn, txn->refs, &findings, &counted, error);
    if (err < 0)
        return err;
    if (findings.leaks > 0 && give_back)
        qc_tally_adopt(txn->refs, counted);
    return 0;
}

/* The refcounts to go on from. */
static int begin_refs(QcTxn *txn, Recount recount, GError **error)
{
    const QcImage *image = txn->image;
    /* A file system may call a hole what it has not written yet (OpenZFS did), a table, say. */
    int err = qc_file_sync(image->file);
    if (err < 0)
        return qc_txn_fail(err, error);
    qc_file_refresh(image->file, 0, 0);
    if (recount == RECOUNT_ALWAYS || image->info.dirty)
        return renew_refs(txn, error);
    bool give_back = recount == RECOUNT_LEAKS && knows_all(&image->header);
    return load_refs(txn, give_back, error);
}

static int begin(QcImage *image, Recount recount, QcRun *run, QcTxn **ret, GError **error)
{
    int err = refuse(image, recount == RECOUNT_ALWAYS, error);
    if (err < 0)
        return err;
    image->spent = true;

    g_autoptr(QcTxn) txn = g_try_new0(QcTxn, 1);
    if (!txn)
        return qc_txn_fail(-ENOMEM, error);
    txn->image = qc_image_ref(image);
    txn->run = run;
    /* counting, accounting for the change, and the flags; which a repair compares, too */
    txn->meter = (QcMeter){.run = run, .passes = recount == RECOUNT_ALWAYS ? 4 : 3};
    txn->next = image->header;
    txn->old_size = image->info.stat.size;
    err = begin_refs(txn, recount, error);
    if (err < 0)
        return err;
    /* An image with one of these marks has been counted anew, or was refused. */
    txn->next.incompatible &= ~(QC_INCOMPAT_DIRTY | QC_INCOMPAT_CORRUPT);
    *ret = g_steal_pointer(&txn);
    return 0;
}

int qc_txn_begin(QcImage *image, QcRun *run, QcTxn **ret, GError **error)
{
    return begin(image, RECOUNT_LEAKS, run, ret, error);
}

int qc_txn_begin_part(QcImage *image, QcRun *run, QcTxn **ret, GError **error)
{
    if (image->info.dirty)
        return qc_fail(error, -EUCLEAN, "the image was not closed cleanly; repair it first");
    return begin(image, RECOUNT_NEVER, run, ret, error);
}

int qc_txn_begin_repair(QcImage *image, QcRun *run, QcTxn **ret, GError **error)
{
    return begin(image, RECOUNT_ALWAYS, run, ret, error);
}

/* ---- writing to free clusters ----------------------------------------------------------- */

static const QcLayout *layout_of(const QcTxn *txn)
{
    return &txn->image->header.layout;
}

int qc_txn_alloc(QcTxn *txn, uint64_t bytes, uint64_t *ret_offset)
{
    uint64_t first;
    int err = qc_refs_alloc(txn->refs, qc_clusters_for(layout_of(txn), bytes), 1, &first);
    if (!err)
        *ret_offset = first << layout_of(txn)->cluster_bits;
    return err;
}

int qc_txn_release(QcTxn *txn, uint64_t offset, uint64_t bytes)
{
    const QcLayout *l = layout_of(txn);
    return qc_refs_add(txn->refs, offset >> l->cluster_bits, qc_clusters_for(l, bytes), -1);
}

/* Before the first sector is written: is the file still ours, and the sector what it was when the
 * command began? */
static int verify_unchanged(QcTxn *txn)
{
    const QcImage *image = txn->image;
    const QcRun *run = txn->run;
    int err = run && run->guard ? run->guard(run->guard_data) : 0;
    qc_image_refresh(image, NULL);
    int same = err ? 0 : qc_image_has_same_sector0(image);
    if (same != 0)
        return MIN(same, 0);
    txn->wrote = false; /* what lies at the end of the file may be theirs */
    return err ? err : -EBUSY;
}

static int write_sector_and_sync(QcFile *file, const uint8_t *sector)
{
    int err = qc_file_write(file, sector, QC_SECTOR, 0);
    return err ? err : qc_file_sync(file);
}

/*
 * Step 2. The program that wrote what was read may have been killed before its sync, or seen it
 * fail. A kernel that could not write a sector takes it for written: a sync alone would not try
 * again.
 */
static int confirm_old(QcTxn *txn)
{
    int err = verify_unchanged(txn);
    return err ? err : write_sector_and_sync(txn->image->file, txn->image->sector0);
}

/* All writes but those of the first sector. */
static int write_out(QcTxn *txn, const void *bytes, size_t len, uint64_t offset)
{
    int err = txn->wrote ? 0 : confirm_old(txn);
    if (err < 0)
        return err;
    txn->wrote = true;
    return qc_file_write(txn->image->file, bytes, len, offset);
}

static int flush_pending(QcTxn *txn)
{
    if (txn->pending_len == 0)
        return 0;
    int err = write_out(txn, txn->pending, txn->pending_len, txn->pending_at);
    txn->pending_len = 0;
    return err;
}

int qc_txn_put(QcTxn *txn, uint64_t offset, const void *bytes, size_t len)
{
    if (!txn->pending) {
        txn->room = (size_t)MIN(PENDING_MAX, txn->old_size); /* a small image needs no more */
        txn->pending = g_try_malloc(txn->room);
    }
    if (!txn->pending)
        return -ENOMEM;
    bool joins = txn->pending_at + txn->pending_len == offset;
    if (txn->pending_len > 0 && (!joins || txn->pending_len + len > txn->room)) {
        int err = flush_pending(txn);
        if (err < 0)
            return err;
    }
    if (len > txn->room)
        return write_out(txn, bytes, len, offset);
    if (txn->pending_len == 0)
        txn->pending_at = offset;
    memcpy(txn->pending + txn->pending_len, bytes, len);
    txn->pending_len += len;
    return 0;
}

int qc_txn_put_padded(QcTxn *txn, uint64_t offset, const void *bytes, size_t len)
{
    size_t cluster = (size_t)qc_cluster_size(layout_of(txn));
    size_t whole = len / cluster * cluster, rest = len - whole;
    int err = whole ? qc_txn_put(txn, offset, bytes, whole) : 0;
    if (err < 0 || rest == 0)
        return err;
    g_autofree uint8_t *last = g_try_malloc0(cluster);
    if (!last)
        return -ENOMEM;
    memcpy(last, (const uint8_t *)bytes + whole, rest);
    return qc_txn_put(txn, offset + whole, last, cluster);
}

/* ---- the switch ------------------------------------------------------------------------- */

/* The switch lies in one sector, which a disk writes as a whole or not at all. */
G_STATIC_ASSERT(sizeof(QcDiskHeader) <= QC_SECTOR);

static int put_refs(void *data, uint64_t offset, const void *bytes, size_t len)
{
    return qc_txn_put(data, offset, bytes, len);
}

/* Steps 4 and 5. */
static int write_refs_and_sync(QcTxn *txn)
{
    int err = qc_refs_place(txn->refs, &txn->next.reftable_offset, &txn->next.reftable_clusters);
    if (!err)
        err = qc_refs_write(txn->refs, put_refs, txn);
    if (!err)
        err = flush_pending(txn);
    if (!err)
        err = qc_file_sync(txn->image->file);
    return err;
}

/*
 * The autoclear bits that are still true. A program that changes the image clears those that it
 * does not know; and without a data file (an image with one is refused) none can be raw: QEMU does
 * not open an image that says so.
 */
static uint64_t kept_autoclear(const QcHeader *h)
{
    return h->autoclear & QC_AUTOCLEAR_KNOWN & ~QC_AUTOCLEAR_RAW;
}

/* The first sector with the fields of next that a command may change. */
static void encode_sector(const QcTxn *txn, uint8_t *sector)
{
    const QcHeader *h = &txn->next;
    QcDiskHeader d;
    memcpy(sector, txn->image->sector0, QC_SECTOR);
    memcpy(&d, sector, sizeof(d));
    d.size = be64_make(h->size);
    d.l1_size = be32_make(h->l1_entries);
    d.l1_table_offset = be64_make(h->l1_offset);
    d.refcount_table_offset = be64_make(h->reftable_offset);
    d.refcount_table_clusters = be32_make(h->reftable_clusters);
    d.nb_snapshots = be32_make(h->n_snapshots);
    d.snapshots_offset = be64_make(h->snapshots_offset);
    if (h->layout.version >= 3) {
        d.incompatible_features = be64_make(h->incompatible);
        d.autoclear_features = be64_make(kept_autoclear(h));
    }
    memcpy(sector, &d, sizeof(d));
}

/*
 * Steps 6 and 7. When they fail, the old sector is put back: all that it refers to is still
 * there, and once it is durable it does not matter what has become of the new one.
 */
static int switch_header(QcTxn *txn, bool *ret_unknown, GError **error)
{
    QcFile *file = txn->image->file;
    uint8_t sector[QC_SECTOR];
    encode_sector(txn, sector);
    int err = verify_unchanged(txn);
    if (err < 0)
        return qc_txn_fail(err, error);
    err = qc_file_write(file, sector, sizeof(sector), 0);
    bool untouched = err < 0 && qc_image_has_same_sector0(txn->image) == 1;
    if (!err)
        err = qc_file_sync(file);
    if (!err)
        return 0;
    if (untouched || write_sector_and_sync(file, txn->image->sector0) == 0)
        return qc_fail(error, err, "the header cannot be written: %s", g_strerror(-err));
    *ret_unknown = true;
    return qc_fail(error, -EIO,
                   "the storage failed while the change was made durable; whether it is made is "
                   "not known");
}

int qc_txn_commit(QcTxn *txn, GError **error)
{
    bool unknown = false;
    int err = write_refs_and_sync(txn);
    if (!err)
        err = qc_meter_ask(&txn->meter); /* from here on it is too late */
    if (err < 0)
        return qc_txn_fail(err, error);
    err = switch_header(txn, &unknown, error);
    if (!err || unknown)
        txn->wrote = false; /* what was written is needed now, or may be */
    if (unknown && txn->run)
        txn->run->unknown = true;
    return err;
}

/* Take back a growth of the file that has come to nothing. The clusters are free anyway. */
static void shrink_back(QcTxn *txn)
{
    QcFile *file = txn->image->file;
    QcFileStat st;
    if (txn->wrote && !S_ISBLK(txn->image->info.stat.mode) && qc_file_stat(file, &st) == 0 &&
        st.size > txn->old_size)
        qc_file_truncate(file, txn->old_size);
}

void qc_txn_free(QcTxn *txn)
{
    if (!txn)
        return;
    shrink_back(txn);
    g_free(txn->pending);
    qc_refs_free(txn->refs);
    qc_image_unref(txn->image);
    g_free(txn);
}
