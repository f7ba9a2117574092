/* reader.h - an open disk, snapshot or layer: serves bytes that are right, or an error. */
#ifndef SNAPTREE_READER_H
#define SNAPTREE_READER_H

#include "fs.h"

typedef struct Reader Reader;

/*
 * Open what the node (NODE_DISK, NODE_SNAPSHOT, NODE_LAYER) stands for. -EBUSY: somebody
 * writes to it, or a command is changing it. -EACCES: the caller may not read one of the
 * files beneath. -EOPNOTSUPP: its data cannot be read.
 */
int reader_open(Fs *fs, Node *node, const Creds *creds, Reader **ret);
void reader_free(Reader *reader); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reader, reader_free)

/* How the kernel is to treat its pages of the file. */
NodePages reader_pages(const Reader *reader);

enum {
    READER_PARTS = FS_MAX_REQUEST / AHEAD_CHUNK + 1,
};

/* What was read, as the parts that it lies in; zero it before use. Not to be copied. */
typedef struct ReaderBytes {
    struct iovec iov[READER_PARTS];
    unsigned n_iov;

    /* private */
    AheadChunk *chunks[READER_PARTS];
    unsigned n_chunks;
    void *buffer;
    size_t buffer_len;
    QcReading reading;
} ReaderBytes;

void reader_bytes_clear(Fs *fs, ReaderBytes *bytes);

/*
 * Read up to len bytes (at most FS_MAX_REQUEST); less only at the end, or, without the page
 * cache, before a place that cannot be read. The bytes are there until reader_bytes_clear().
 */
int reader_read(Reader *reader, size_t len, uint64_t offset, ReaderBytes *ret);

/* As qc_view_seek(). */
int64_t reader_seek(Reader *reader, uint64_t offset, bool hole);

/* What identifies a snapshot among the parts of its image, see claims.h (g_free). */
char *reader_snapshot_part(const QcSnapshot *snapshot);

#endif
