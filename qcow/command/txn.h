/*
 * txn.h - changing the metadata of an image so that nothing can be lost.
 *
 * A transaction writes everything new to clusters that are free in the image as it is, and
 * then switches with one write inside the first sector. Until that write the file's old
 * contents are untouched; from it on the new ones count, and what they replace is free. The
 * steps are numbered in docs/DURABILITY.md and txn.c.
 */
#ifndef QCOW_TXN_H
#define QCOW_TXN_H

#include "refs.h"

typedef struct QcTxn {
    QcImage *image;
    QcRun *run;        /* or NULL */
    QcMeter meter;     /* of that run */
    QcRefs *refs;      /* as they are to become */
    QcHeader next;     /* the header as it is to become */
    uint64_t old_size; /* of the file */
    bool wrote;        /* something may lie past old_size */

    /* Bytes put but not written yet: pending_len of at most room, to go to pending_at. */
    uint8_t *pending;
    size_t room, pending_len;
    uint64_t pending_at;
} QcTxn;

/*
 * Begin a command on an image that was opened for it. Uses the image up. Refuses images that
 * cannot be changed (-EOPNOTSUPP), that are used up (-EINVAL), and those that are corrupt or whose
 * metadata the refcounts do not protect (-EUCLEAN). The references of a dirty image are counted
 * anew, as are those of one with leaks, unless something in its header is not known. The command
 * must set all COPIED flags of the active tree: they may be wrong, and the counts changed.
 */
int qc_txn_begin(QcImage *image, QcRun *run, QcTxn **ret, GError **error);

/*
 * For a command that sets the flags only where it changes something: leaks stay. -EUCLEAN for a
 * dirty image, too.
 */
int qc_txn_begin_part(QcImage *image, QcRun *run, QcTxn **ret, GError **error);

/*
 * As qc_txn_begin(), but with references counted anew, as for every command on a dirty image; also
 * for an image that is marked corrupt. The marks will be cleared. -EUCLEAN: the tables are
 * broken.
 */
int qc_txn_begin_repair(QcImage *image, QcRun *run, QcTxn **ret, GError **error);

/* Clusters in a row for bytes bytes, each with refcount 1; a host offset. */
int qc_txn_alloc(QcTxn *txn, uint64_t bytes, uint64_t *ret_offset);

/* Drop one reference from the clusters that hold bytes bytes at host offset offset. */
int qc_txn_release(QcTxn *txn, uint64_t offset, uint64_t bytes);

/* Write len bytes (a multiple of the cluster size) to clusters that the transaction got. */
int qc_txn_put(QcTxn *txn, uint64_t offset, const void *bytes, size_t len);

/* Put bytes that need not fill their last cluster; the rest becomes zeros. */
int qc_txn_put_padded(QcTxn *txn, uint64_t offset, const void *bytes, size_t len);

/* Make it so; or fail, and say in the run whether what is on disk is unknown. */
int qc_txn_commit(QcTxn *txn, GError **error);

/* Forget it; without a commit, the file gets its old length back. Accepts NULL. */
void qc_txn_free(QcTxn *txn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcTxn, qc_txn_free)

/* Fill error for a failure (negative errno) of one of the functions that have none. */
int qc_txn_fail(int err, GError **error);

#endif
