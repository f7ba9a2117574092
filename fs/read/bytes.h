/* bytes.h - what was read of a view for one answer, in the pieces that it lies in. */
#ifndef SNAPTREE_BYTES_H
#define SNAPTREE_BYTES_H

#include "fs.h"

#include <sys/uio.h>

enum {
    BYTES_PARTS = FS_MAX_REQUEST / AHEAD_CHUNK + 1,
};

/* Zero it before use. Not to be copied. */
typedef struct Bytes {
    struct iovec iov[BYTES_PARTS];
    unsigned n_iov;
    QcReading reading; /* which layers they came from */

    /* private */
    AheadChunk *chunks[BYTES_PARTS];
    unsigned n_chunks;
    void *buffer;
    size_t buffer_len;
} Bytes;

/*
 * Replace what is there by len bytes of a view (at most FS_MAX_REQUEST), fewer only where it ends.
 * ahead: of the open file; NULL: read nothing ahead. Returns how many; -ENOMEM, -EIO. The caller
 * has to check whether the view was right meanwhile.
 */
int64_t bytes_read(Bytes *bytes, const Fs *fs, Ahead *ahead, QcView *view, size_t len,
                   uint64_t offset);
void bytes_clear(Bytes *bytes, const Fs *fs);

#endif
