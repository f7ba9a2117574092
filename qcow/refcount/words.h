/*
 * words.h - long tables of 8-byte numbers, read in pieces.
 *
 * L1 tables, refcount tables and bitmap tables may have 32 MiB, nearly all of it zeros; what of
 * them lies in holes of the file costs neither reading nor memory.
 */
#ifndef QCOW_WORDS_H
#define QCOW_WORDS_H

#include "qcow.h"

/* Called for each number that is not 0, in order. A result other than 0 ends the reading. */
typedef int (*QcWordFunc)(void *data, uint32_t index, uint64_t word);

/* Read n numbers from offset on. -EUCLEAN when they do not lie inside the file; -EIO, -ENOMEM. */
int qc_words_read(QcFile *file, uint64_t offset, uint32_t n, QcWordFunc func, void *data);

#endif
