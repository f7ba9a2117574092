/*
 * cache.h - bounded memory of table slices, areas and decoded clusters, shared by all images.
 */
#ifndef QCOW_CACHE_H
#define QCOW_CACHE_H

#include "inflate.h"
#include "qcow.h"

typedef enum QcCachedKind {
    QC_CACHED_TABLE,   /* a slice of an L1 or L2 table, as on disk */
    QC_CACHED_CLUSTER, /* a decoded compressed cluster */
    QC_CACHED_BLANK,   /* a byte: whether an L2 table is nothing but zeros */
    QC_CACHED_AREA,    /* of a view: see area.h */
} QcCachedKind;

/* What an entry holds: whose (see qc_cache_new_owner), what, and from which offset. */
typedef struct QcCachedKey {
    uint64_t owner, offset;
    QcCachedKind kind;
} QcCachedKey;

/* Bytes that do not change any more once the entry is in the cache. */
typedef struct QcCached {
    QcCachedKey key;
    struct QcCached *next; /* of the cache, under its lock ... */
    GList link;            /* ... and so is this */
    gint was_found;        /* since it was put at the head of the queue; atomic */
    gatomicrefcount refs;
    size_t size;
    uint8_t data[];
} QcCached;

/* A number that no other owner has or ever had. */
uint64_t qc_cache_new_owner(QcCache *cache);

/* A reference to the entry, or NULL when it is not there. */
QcCached *qc_cache_find(QcCache *cache, const QcCachedKey *key);

/* An entry to fill; not in the cache yet. NULL when there is no memory. */
QcCached *qc_cached_new(const QcCachedKey *key, size_t size);

/* Add a filled entry. When another thread was faster, its entry stays and this one does not
 * enter. The caller keeps its reference. */
void qc_cache_add(QcCache *cache, QcCached *entry);

void qc_cached_unref(QcCached *entry); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcCached, qc_cached_unref)

/* Decoders for one user at a time; put them back. NULL when there is no memory. */
QcInflater *qc_cache_get_inflater(QcCache *cache);
void qc_cache_put_inflater(QcCache *cache, QcInflater *inflater);

#endif
