/*
 * countfile.h - a QcFile over another one that counts what is asked of it; and one without a
 * name that may be sparse, which memfile.h is not.
 */
#ifndef TESTS_COUNTFILE_H
#define TESTS_COUNTFILE_H

#include "qcow-file.h"

typedef struct CountFile {
    QcFile base;
    QcFile *inner;
    _Atomic uint64_t reads, bytes; /* bytes that were read */
    _Atomic uint64_t seeks, writes;
    _Atomic uint64_t past; /* reads past the page cache; each gives half of what is asked for */
    _Atomic uint64_t pass; /* of the last of them */
    /* Sees, and may change, what was read: n bytes. NULL: nothing does. */
    void (*on_read)(void *data, uint8_t *buf, ssize_t n, uint64_t offset);
    void *on_read_data;
} CountFile;

/* Takes over the reference to inner. */
CountFile *count_file_new(QcFile *inner);
void count_file_reset(CountFile *file);

/* A file in memory whose holes take none. */
QcFile *sparse_file_new(void);

static inline QcFile *count_file(CountFile *file)
{
    return &file->base;
}

#endif
