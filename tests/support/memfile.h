/*
 * memfile.h - a QcFile in memory that remembers what was done to it, and fails on request.
 */
#ifndef TESTS_MEMFILE_H
#define TESTS_MEMFILE_H

#include "qcow-file.h"

enum {
    MEM_BLOCK = 4096,
    MEM_MAX_SIZE = 1 << 30, /* of a new file */
};

typedef enum MemOpKind {
    MEM_WRITE,
    MEM_SYNC,
    MEM_TRUNCATE,
} MemOpKind;

/* One recorded operation. */
typedef struct MemOp {
    MemOpKind kind;
    uint64_t offset, size; /* of TRUNCATE: size is the new length */
    uint8_t *bytes;        /* of WRITE */
} MemOp;

typedef struct MemFile {
    QcFile base;
    GByteArray *data;
    GArray *log; /* of MemOp, while recording */
    bool recording;
    int64_t mtime;

    /* Fault injection: the operation number fail_at (pread, pwrite, sync, truncate, counted
     * from 0 in calls) fails with fail_error; all later ones too when fail_on. */
    int64_t calls, fail_at;
    int fail_error;
    bool fail_on;
    bool short_io; /* transfers stop after 512 bytes */

    uint64_t max_size; /* growing beyond is -EFBIG */
    bool sparse;       /* blocks of MEM_BLOCK zeros are holes */
} MemFile;

/* A file with a copy of the bytes; fail_at is -1. */
MemFile *mem_file_new(const void *bytes, size_t len);
MemFile *mem_file_copy(const MemFile *file);
/* Forget the log, count calls from 0 again, start recording. */
void mem_file_record(MemFile *file);
/* Do a recorded operation, or only the first bytes bytes of a write. */
void mem_file_apply(MemFile *file, const MemOp *op, uint64_t bytes);

static inline QcFile *mem_file(MemFile *file)
{
    return &file->base;
}

#endif
