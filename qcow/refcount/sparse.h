/*
 * sparse.h - long tables of 8-byte numbers, nearly all of them 0, read in pieces.
 *
 * L1 tables, refcount tables and bitmap tables may have 32 MiB. What of them lies in holes of the
 * file costs neither reading nor memory.
 */
#ifndef QCOW_SPARSE_H
#define QCOW_SPARSE_H

#include "qcow.h"

/* Called for each number that is not 0, in order. A result other than 0 ends the reading. */
typedef int (*QcSparseFunc)(void *data, uint32_t index, uint64_t number);

/* Read n numbers from offset on. -EUCLEAN when they do not lie inside the file; -EIO, -ENOMEM. */
int qc_sparse_read(QcFile *file, uint64_t offset, uint32_t n, QcSparseFunc func, void *data);

#endif
