/*
 * tree.h - whole mapping trees: an L1 table and all L2 tables beneath it.
 *
 * Commands look at trees as a whole: whether the entries are valid, which clusters they refer
 * to, and how many references each has. An L1 table in memory is an array of entries in the
 * host's byte order.
 */
#ifndef QCOW_TREE_H
#define QCOW_TREE_H

#include "meter.h"
#include "refs.h"

/* Read an L1 table. The result has n entries (g_free). -EUCLEAN past the end of the file. */
int qc_l1_load(QcImage *image, uint64_t offset, uint32_t n, uint64_t **ret);

/*
 * Called for each L2 table of a tree, in the order of their host offsets. slot is its index
 * in the L1 table. table may be changed and is valid until the call returns; it is NULL when
 * the table holds nothing but zeros.
 */
typedef int (*QcTreeFunc)(void *data, uint32_t slot, uint64_t l2_offset, uint8_t *table);

/* Each table is a step of the meter. -EUCLEAN when an L1 entry is not valid or two point to the
 * same table. Errors of qc_batch_read(). */
int qc_tree_walk(QcImage *image, const uint64_t *l1, uint32_t n, QcMeter *meter, QcTreeFunc func,
                 void *data);

/*
 * Add delta to the refcounts of everything the tree refers to: L2 tables, data clusters,
 * compressed clusters. -EUCLEAN when an entry is not valid; errors of qc_refs_add().
 */
int qc_tree_account(QcImage *image, QcRefs *refs, const uint64_t *l1, uint32_t n, int delta,
                    QcMeter *meter);

#endif
