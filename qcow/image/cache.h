/*
 * cache.h - bounded memory of table slices, areas and decoded clusters, shared by all images.
 */
#ifndef QCOW_CACHE_H
#define QCOW_CACHE_H

#include "inflate.h"
#include "qcow.h"

typedef enum QcBlockKind {
    QC_BLOCK_TABLE,   /* a slice of an L1 or L2 table, as on disk */
    QC_BLOCK_CLUSTER, /* a decoded compressed cluster */
    QC_BLOCK_BLANK,   /* a byte: whether an L2 table is nothing but zeros */
    QC_BLOCK_AREA,    /* of a view: see area.h */
} QcBlockKind;

/* What a block holds: whose (see qc_cache_new_owner), what, and from which offset. */
typedef struct QcBlockKey {
    uint64_t owner, offset;
    QcBlockKind kind;
} QcBlockKey;

/* Bytes that do not change any more once the block is in the cache. */
typedef struct QcBlock {
    QcBlockKey key;
    struct QcBlock *next; /* of the cache, under its lock ... */
    GList link;           /* ... and so is this */
    gatomicrefcount refs;
    size_t size;
    uint8_t data[];
} QcBlock;

/* A number that no other owner has or ever had. */
uint64_t qc_cache_new_owner(QcCache *cache);

/* A reference to the block, or NULL when it is not there. */
QcBlock *qc_cache_find(QcCache *cache, const QcBlockKey *key);

/* A block to fill; not in the cache yet. NULL when there is no memory. */
QcBlock *qc_block_new(const QcBlockKey *key, size_t size);

/* Add a filled block. When another thread was faster, its block stays and this one does not
 * enter. The caller keeps its reference. */
void qc_cache_add(QcCache *cache, QcBlock *block);

void qc_block_unref(QcBlock *block); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcBlock, qc_block_unref)

/* Decoders for one user at a time; put them back. NULL when there is no memory. */
QcInflater *qc_cache_get_inflater(QcCache *cache);
void qc_cache_put_inflater(QcCache *cache, QcInflater *inflater);

#endif
