/*
 * memfile.h - a QcFile in memory that remembers what was done to it, and fails on request.
 */
#ifndef TESTS_MEMFILE_H
#define TESTS_MEMFILE_H

#include "qcow.h"

enum {
    MEM_BLOCK = 4096,
    MEM_MAX_SIZE = 1 << 30, /* of a new file */
    MEM_SHORT = 1,          /* no errno is positive */
};

typedef enum MemOpKind {
    MEM_WRITE,
    MEM_SYNC,
    MEM_SYNC_FAILED, /* what was not synced before it may never be, whatever is synced later */
    MEM_TRUNCATE,
} MemOpKind;

/* One recorded operation. */
typedef struct MemOp {
    MemOpKind kind;
    uint64_t offset, size; /* of TRUNCATE: size is the new length */
    uint8_t *bytes;        /* of WRITE */
    int64_t call;          /* its number */
} MemOp;

typedef struct MemFile {
    QcFile base;
    GByteArray *data;
    GArray *log; /* of MemOp, while recording */
    bool recording;
    int64_t mtime;

    /* Fault injection. The operation number fail_at (pread, pwrite, sync, truncate, stat, seek,
     * counted from 0 in calls) fails with fail_error; all later ones too when fail_on, or all
     * later syncs when fail_syncs. Where fail_error is MEM_SHORT, transfers stop after half their
     * bytes, and the rest works. */
    int64_t calls, fail_at;
    int fail_error;
    bool fail_on, fail_syncs;
    bool short_io; /* transfers stop after 512 bytes */

    int writer;       /* what has_writer says */
    int locked;       /* what lock_held says */
    int64_t restless; /* it is written to all the time: its times are those of now, in whole units
                         of so many nanoseconds; 0: they are mtime */
    bool device;      /* stat says that it is a block device */
    struct MemFile *medium; /* what is on the device, as another machine sees it, too: data is what
                               this machine remembers of it until refresh; or NULL; not owned */

    QcGate *gate;      /* the store that its backing file is in, or NULL; not owned */
    uint64_t max_size; /* growing beyond is -EFBIG */
    bool sparse;       /* blocks of MEM_BLOCK zeros are holes */
    uint64_t late;     /* the block with this byte is called a hole until the next sync; 0: none */
} MemFile;

/* A file with a copy of the bytes; fail_at is -1. */
MemFile *mem_file_new(const void *bytes, size_t len);
MemFile *mem_file_copy(const MemFile *file);
/* Become what another file is, as far as its bytes go. */
void mem_file_assign(MemFile *file, const MemFile *other);
/* Forget the log, count calls from 0 again, start recording. */
void mem_file_record(MemFile *file);
/* Do a recorded operation, or only the first bytes bytes of a write. */
void mem_file_apply(MemFile *file, const MemOp *op, uint64_t bytes);

/*
 * For programs that copy large files again and again: what was freed is used again, and not given
 * back to the kernel, which would have to clear it each time.
 */
void mem_keep_memory(void);

/* An 8-byte big-endian number of the file; at + 8 must lie inside. */
uint64_t mem_file_word(const MemFile *file, uint64_t at);
void mem_file_put_word(MemFile *file, uint64_t at, uint64_t x);

static inline QcFile *mem_file(MemFile *file)
{
    return &file->base;
}

#endif
