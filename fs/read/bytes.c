/*
 * bytes.c - see bytes.h.
 *
 * Bytes that were read ahead are handed out where they lie, in chunks that the Bytes hold
 * references of; others are read into one buffer. Zeros lie in the same place for all.
 */
#include "bytes.h"

#include <errno.h>

void bytes_clear(Bytes *bytes, const Fs *fs)
{
    for (unsigned i = 0; i < bytes->n_chunks; i++)
        ahead_chunk_unref(bytes->chunks[i]);
    buffers_put(fs->buffers, bytes->buffer, bytes->buffer_len);
    *bytes = (Bytes){0};
}

/* Add len bytes to what was read. data NULL: zeros. */
static void add_part(Bytes *bytes, const Fs *fs, const void *data, size_t len)
{
    bytes->iov[bytes->n_iov++] =
        (struct iovec){.iov_base = (void *)(data ? data : fs->zeros), .iov_len = len};
}

/* Add a range, which lies in the chunks. */
static void take_chunks(Bytes *bytes, const Fs *fs, size_t len, uint64_t offset)
{
    for (unsigned i = 0; i < bytes->n_chunks; i++) {
        const QcReading *reading = ahead_chunk_reading(bytes->chunks[i]);
        size_t part;
        const void *data = ahead_chunk_bytes(bytes->chunks[i], offset, len, &part);

        add_part(bytes, fs, data, part);
        offset += part;
        len -= part;
        for (unsigned w = 0; w < G_N_ELEMENTS(reading->layers); w++)
            bytes->reading.layers[w] |= reading->layers[w];
    }
}

static int64_t read_now(Bytes *bytes, const Fs *fs, QcView *view, size_t len, uint64_t offset)
{
    bytes->buffer = buffers_get(fs->buffers, len);
    bytes->buffer_len = len;
    if (!bytes->buffer)
        return -ENOMEM;

    ssize_t n = qc_view_fetch(view, bytes->buffer, len, offset, &bytes->reading);
    if (n > 0)
        add_part(bytes, fs, bytes->reading.zeros ? NULL : bytes->buffer, (size_t)n);
    return n;
}

int64_t bytes_read(Bytes *bytes, const Fs *fs, Ahead *ahead, QcView *view, size_t len,
                   uint64_t offset)
{
    uint64_t size = qc_view_size(view);

    bytes_clear(bytes, fs);
    len = offset < size ? (size_t)MIN(len, size - offset) : 0;
    if (len == 0)
        return 0;
    if (ahead) {
        bytes->n_chunks = ahead_get(ahead, view, offset, len, bytes->chunks);
        bytes->reading.pass = ahead_pass(ahead);
    }
    if (bytes->n_chunks == 0)
        return read_now(bytes, fs, view, len, offset);
    take_chunks(bytes, fs, len, offset);
    return (int64_t)len;
}
