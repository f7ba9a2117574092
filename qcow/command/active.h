/*
 * active.h - the active tree inside a transaction: its COPIED flags and its L1 table.
 *
 * Where a command changes counts, flags in the active tree change (see flags.h), and the L2 tables
 * that hold them move. L1 tables are arrays of n entries in the host's byte order.
 */
#ifndef QCOW_ACTIVE_H
#define QCOW_ACTIVE_H

#include "txn.h"

/*
 * Make the COPIED flags of the tree of l1 true, all references being counted. Changed L2
 * tables move, and l1 follows; owners is how many L1 tables are going to hold these entries.
 * -EUCLEAN when a count is 0 or an entry is not valid.
 */
int qc_active_fix_copied(QcTxn *txn, uint64_t *l1, uint32_t n, unsigned owners);

/* Write an L1 table to new clusters. A table without entries has no place: offset 0. */
int qc_active_write_l1(QcTxn *txn, const uint64_t *l1, uint32_t n, uint64_t *ret_offset);

/* Let l1 be the active L1 table from now on, and release the old one. */
int qc_active_replace_l1(QcTxn *txn, const uint64_t *l1, uint32_t n);

/* Make the flags of the active tree true and write its L1 table anew. */
int qc_active_refresh(QcTxn *txn);

#endif
