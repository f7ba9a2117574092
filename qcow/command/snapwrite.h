/*
 * snapwrite.h - writing the snapshot table anew, in a transaction.
 */
#ifndef QCOW_SNAPWRITE_H
#define QCOW_SNAPWRITE_H

#include "txn.h"

enum {
    QC_NEW_ID_BYTES = 24, /* of the id of a new snapshot, with its NUL: any 64-bit number fits */
};

/* How a new snapshot table differs from the old one: not at all when zero. */
typedef struct QcTableEdit {
    unsigned index;          /* of the entry that the next two are about */
    bool drop;               /* leave it out */
    const char *new_name;    /* give it this name; NULL: it keeps its own */
    const QcSnapshot *added; /* an entry to append, its id below QC_NEW_ID_BYTES; NULL: none */
} QcTableEdit;

/*
 * Write the snapshot table anew, and release the old one. Entries without what version 3 asks for
 * get it. -EFBIG: it would be longer than the format allows.
 */
int qc_snapshots_replace(QcTxn *txn, const QcTableEdit *edit);

/* Do so when entries lack something, and nothing else is to change. */
int qc_snapshots_complete(QcTxn *txn);

#endif
