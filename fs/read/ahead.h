/* ahead.h - reading ahead, on all processors, in files that are read from one end to the other. */
#ifndef SNAPTREE_AHEAD_H
#define SNAPTREE_AHEAD_H

#include <qcow.h>

#define AHEAD_CHUNK   (256u * 1024u) /* bytes that are read at a time */
#define AHEAD_IDLE_US (100 * 1000)   /* how long a file is not read from until it is idle */

/* What all open files share: threads, and a bound on the memory. */
typedef struct AheadPool AheadPool;

/* Starts its threads, or as many as it can; NULL: none. A file that was not read from for idle_us
 * has to give way to others. */
AheadPool *ahead_pool_new(unsigned threads, gint64 idle_us);
/* No file may be open any more. Accepts NULL. */
void ahead_pool_free(AheadPool *pool);

/* Of one open file: where its reader is, and what was read ahead of it. Thread-safe. */
typedef struct Ahead Ahead;

/* How a file is read, and what for. */
typedef enum AheadReader {
    AHEAD_WAITS = 1,  /* no more is asked for before the answer is there, as with direct I/O */
    AHEAD_PASSES = 2, /* the kernel keeps what it gets: the image's file need not be kept, too */
} AheadReader;

/* reader: AheadReader or'ed together. */
Ahead *ahead_new(AheadPool *pool, unsigned reader);
void ahead_free(Ahead *ahead); /* accepts NULL */
/* The number of the pass that the reading is, for QcReading; 0: of none. */
uint64_t ahead_pass(const Ahead *ahead);

/* A stretch of the file that was read; immutable. */
typedef struct AheadChunk AheadChunk;

void ahead_chunk_unref(AheadChunk *chunk); /* accepts NULL */

/*
 * A range is to be read, which lies in the view. When it continues what was read before, have what
 * follows it read ahead, and give the chunks that it lies in (references; ret_chunks has to have
 * room for all that it can touch). Returns how many; 0: it does not continue, or something went
 * wrong, and the caller has to read the range.
 */
unsigned ahead_get(Ahead *ahead, QcView *view, uint64_t offset, size_t len,
                   AheadChunk **ret_chunks);

/* What a chunk has of a range, whose first byte or an earlier one is in it. NULL: zeros. */
const void *ahead_chunk_bytes(const AheadChunk *chunk, uint64_t offset, size_t len,
                              size_t *ret_len);
/* Which layers of the view its bytes came from. */
const QcReading *ahead_chunk_reading(const AheadChunk *chunk);

#endif
