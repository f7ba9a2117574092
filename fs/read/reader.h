/* reader.h - an open disk, snapshot or layer: serves bytes that are right, or an error. */
#ifndef SNAPTREE_READER_H
#define SNAPTREE_READER_H

#include "bytes.h"
#include "fs.h"

typedef struct Reader Reader;

/*
 * Open what the node (NODE_DISK, NODE_SNAPSHOT, NODE_LAYER) stands for. -EBUSY: another process
 * writes to it, or a command is changing it. -EACCES: the caller may not read one of the files that
 * it rests on. -EOPNOTSUPP: its data cannot be read. -ESTALE: its name leads to another node by
 * now.
 */
int reader_open(Fs *fs, Node *node, const Creds *creds, Reader **ret);
void reader_free(Reader *reader); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reader, reader_free)

/* How the kernel is to treat its pages of the file. */
PagesUse reader_pages(const Reader *reader);
/* The number of the file that the kernel is to read by itself (passthrough.h); 0: none. */
int reader_passed(const Reader *reader);

/*
 * Read up to len bytes (at most FS_MAX_REQUEST); less only at the end, or before a place that
 * cannot be read. whole: not there either, as the kernel would fill a page up with zeros; -EIO
 * instead. The bytes are there until bytes_clear().
 */
int reader_read(Reader *reader, size_t len, uint64_t offset, bool whole, Bytes *ret);

/* The size of what is read, as it is now as far as that can be told. */
uint64_t reader_size(Reader *reader);

/* As qc_view_seek(). */
int64_t reader_seek(Reader *reader, uint64_t offset, bool hole);

#endif
