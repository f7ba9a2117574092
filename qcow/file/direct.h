/*
 * direct.h - reading a file past the kernel's page cache.
 *
 * Who passes over a whole file once, as a backup does, gains nothing by what the page cache keeps
 * of it, pays for putting it there, and has it push out what others use. But a file that is passed
 * over once may be so again: several snapshots lie in one image. So only the first pass since the
 * file was opened goes past the cache, which costs the second no more than the first; all later
 * ones find there what the second has left. When the second begins before the first has ended, the
 * first does not go past the cache any further: the two find there what either has read.
 *
 * A pass goes past the cache where that is of use and in nobody's way: of a regular file that, as
 * far as can be told (QcFileOps.has_writer), no process has open for writing when the pass begins -
 * it would wait for each read, and this for data that it has not written yet - and that is not in
 * the cache already.
 */
#ifndef QCOW_DIRECT_H
#define QCOW_DIRECT_H

#include "qcow-file.h"
#include <stdatomic.h>
#include <stdbool.h>

/* Of one open file. Thread-safe. */
typedef struct QcDirect {
    _Atomic uint64_t pass; /* number of the first one; 0: there was none */
    _Atomic int fd;        /* the file opened once more, for reading past the cache; or -1 */
    atomic_bool others;    /* there was another pass */
} QcDirect;

void qc_direct_init(QcDirect *direct);
void qc_direct_clear(QcDirect *direct);

/* As QcFileOps.pread_past. file: the one that direct is of. */
ssize_t qc_direct_read(QcDirect *direct, QcFile *file, uint64_t pass, void *buf, size_t len,
                       uint64_t offset);

#endif
