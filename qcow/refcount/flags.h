/*
 * flags.h - the COPIED flags of a tree, and what they have to be.
 *
 * COPIED says that a cluster's refcount is exactly 1; a guest may then write in place. It stands in
 * L1 entries for the L2 table, and in L2 entries for the host cluster, compressed ones excepted.
 * Checks and commands both set the flags in memory by the refcounts: a check tells what was wrong,
 * and a command writes what came of it.
 */
#ifndef QCOW_FLAGS_H
#define QCOW_FLAGS_H

#include "refs.h"

/* What was wrong with the flags of a table. */
typedef struct QcFlags {
    uint64_t wrong; /* how many */
    uint64_t first; /* the index of the first */
    bool broken;    /* an entry is not valid, or what it points at has the count 0 */
} QcFlags;

/* Make the flags of an L2 table as it lies on disk true. -ENOMEM. */
int qc_flags_set_l2(const QcLayout *layout, QcRefs *refs, uint8_t *table, QcFlags *ret);

/* Make those of an L1 table true: n entries in the host's byte order. Nothing else of them changes,
 * and whether they are valid is not looked at. */
QcFlags qc_flags_set_l1(const QcLayout *layout, const QcRefs *refs, uint64_t *l1, uint32_t n);

#endif
