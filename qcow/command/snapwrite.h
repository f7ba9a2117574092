/*
 * snapwrite.h - writing the snapshot table anew, in a transaction.
 */
#ifndef QCOW_SNAPWRITE_H
#define QCOW_SNAPWRITE_H

#include "snaptable.h"
#include "txn.h"

/* How a new snapshot table differs from the old one. */
typedef struct QcTableEdit {
    unsigned drop;   /* index of an entry to leave out; UINT_MAX: none */
    unsigned rename; /* index of an entry to get new_name; UINT_MAX: none */
    const char *new_name;
    const QcSnapshot *added; /* an entry to append; NULL: none */
} QcTableEdit;

/*
 * Write the snapshot table anew, and release the old one. Entries without what version 3 asks for
 * get it. -EFBIG: it would be longer than the format allows.
 */
int qc_snapshots_replace(QcTxn *txn, const QcTableEdit *edit);

/* Do so when entries lack something, and nothing else is to change. */
int qc_snapshots_complete(QcTxn *txn);

#endif
