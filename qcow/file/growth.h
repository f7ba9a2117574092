/*
 * growth.h - the time that the locks on a file are kept after it has grown.
 *
 * QEMU asks for a file's length when it opens it, and for its locks a little later. A program that
 * opened the file before it grew, and got the locks after, would read zeros where the tables are
 * that were written meanwhile, and act on that. So the locks on a file that has grown are kept
 * until a program that opened it before has tried to get them, and failed.
 */
#ifndef QCOW_GROWTH_H
#define QCOW_GROWTH_H

#include <stdint.h>

/* Of one open file. For the one thread that writes to it and locks it. */
typedef struct QcGrowth {
    uint64_t size; /* bytes; as far as it reaches */
    int64_t grown; /* when it became that, on the monotonic clock; 0: not since it was waited for */
} QcGrowth;

/* The file reaches to size now. */
void qc_growth_note(QcGrowth *growth, uint64_t size);

/* Wait, 50 ms at most, until the locks may be dropped. */
void qc_growth_wait(QcGrowth *growth);

#endif
