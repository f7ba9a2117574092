/*
 * spread.h - reorders cluster numbers so that consecutive ones touch neighbouring memory.
 *
 * The entries of a large disk name clusters all over the file, and what a command keeps of each
 * cluster is together larger than the processor's caches: taken one by one, each entry waits for
 * memory. A spread holds them back, sorted coarsely, and hands them on in runs that stay within
 * a small range. What comes as a long row is handed on as it comes.
 */
#ifndef QCOW_SPREAD_H
#define QCOW_SPREAD_H

#include "refs.h"

typedef struct QcSpread QcSpread;

/* Gets count clusters in a row. A result other than 0 ends everything. */
typedef int (*QcSpreadFunc)(void *data, uint64_t first, uint64_t count, uint32_t tag);

/* For numbers below n_clusters, mostly: larger ones cost time, no more. -ENOMEM. For one thread. */
int qc_spread_new(const QcRefs *refs, uint64_t n_clusters, QcSpreadFunc func, void *data,
                  QcSpread **ret);
/* Accepts NULL. What is still held back is not handed on. */
void qc_spread_free(QcSpread *spread);

/* Hand on count clusters in a row, together now or one by one later. A result other than 0 is of
 * the function, for any number. */
int qc_spread_add(QcSpread *spread, uint64_t first, uint64_t count, uint32_t tag);
/* Hand on all that is still held back. */
int qc_spread_flush(QcSpread *spread);

#endif
