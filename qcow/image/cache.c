/*
 * cache.c - see cache.h.
 *
 * A hash table of entries and a queue of them. Those at its tail are dropped first, but not one
 * that was found since it was put at the head: it begins anew there. So what is used often stays,
 * and to find an entry changes neither the table nor the queue. All readers meet here, many
 * thousand times a second, so finders share the lock; to move what they find would make them wait
 * for each other.
 *
 * Invariants, all under the lock, held alone: an entry is in the table exactly when its link is in
 * the queue; the cache owns one reference to it; bytes is the sum of what they cost and at most
 * max_bytes. Readers keep references, so an entry may outlive its eviction. Keys are never reused
 * for other contents: an image that changed is a new owner, and what the old one left behind ages
 * out.
 *
 * The table is an array of buckets, chained through the entries: to add an entry takes no memory.
 * The budget bounds how many they are, so the array is made once, as a part of the budget. A
 * GHashTable grows as it is filled, and ends the process when there is no memory for that.
 */
#include "cache.h"
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

enum {
    MAX_INFLATERS = 16, /* kept for reuse; each up to some 200 KiB */
    OVERHEAD = 64,      /* bytes that malloc adds to an entry, and some */
    BUCKET_BYTES = 512, /* of the budget for each bucket; the smallest entry costs 140 */
    MIN_BUCKET_BITS = 6,
    MAX_BUCKET_BITS = 24,
    MOST_SPARED = 64, /* entries in a row, when one is to be dropped */
};

struct QcCache {
    gatomicrefcount refs;
    guint64 last_owner;    /* under lock */
    pthread_rwlock_t lock; /* a GRWLock ends the process when there is no memory for it */
    QcCached **buckets;    /* the first of each; 2^bucket_bits */
    unsigned bucket_bits;
    GQueue queue; /* of links */
    size_t bytes, max_bytes;
    QcInflater *inflaters[MAX_INFLATERS];
    unsigned n_inflaters;
};

/* splitmix64's constants: the highest bits, which are taken, depend on every bit of the key. */
static QcCached **bucket_of(const QcCache *cache, const QcCachedKey *k)
{
    uint64_t h = (k->owner * 4 + k->kind) * UINT64_C(0x9e3779b97f4a7c15) ^ k->offset;
    h *= UINT64_C(0xbf58476d1ce4e5b9);
    h ^= h >> 32;
    h *= UINT64_C(0x94d049bb133111eb);
    return &cache->buckets[h >> (64 - cache->bucket_bits)];
}

/* Under the lock, also shared. What points at the entry with this key, or at the NULL where its
 * bucket ends. */
static QcCached **find_link(const QcCache *cache, const QcCachedKey *key)
{
    QcCached **link = bucket_of(cache, key);
    for (; *link; link = &(*link)->next) {
        const QcCachedKey *k = &(*link)->key;
        if (k->owner == key->owner && k->offset == key->offset && k->kind == key->kind)
            break;
    }
    return link;
}

/* How many buckets a budget is worth, as a power of two. */
static unsigned bits_for(size_t max_bytes)
{
    unsigned bits = MIN_BUCKET_BITS;
    while (bits < MAX_BUCKET_BITS && max_bytes >> bits > BUCKET_BYTES)
        bits++;
    return bits;
}

QcCache *qc_cache_new(size_t max_bytes)
{
    g_autofree QcCache *cache = g_try_new0(QcCache, 1);
    if (!cache)
        return NULL;
    cache->bucket_bits = bits_for(max_bytes);
    size_t n = (size_t)1 << cache->bucket_bits, array = n * sizeof(*cache->buckets);
    cache->buckets = g_try_new0(QcCached *, n);
    if (!cache->buckets)
        return NULL;
    g_atomic_ref_count_init(&cache->refs);
    pthread_rwlock_init(&cache->lock, NULL);
    cache->max_bytes = max_bytes - MIN(max_bytes, array);
    /* No image can choose offsets by their hashes when part of the key is not known. */
    uint32_t secret = 0;
    if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) > 0)
        cache->last_owner = (uint64_t)secret << 24;
    return g_steal_pointer(&cache);
}

QcCache *qc_cache_ref(QcCache *cache)
{
    g_atomic_ref_count_inc(&cache->refs);
    return cache;
}

static size_t cost_of(const QcCached *entry)
{
    return sizeof(*entry) + entry->size + OVERHEAD;
}

/* Under the lock, alone. Takes the entry out and returns the cache's reference. */
static QcCached *detach(QcCache *cache, QcCached *entry)
{
    g_queue_unlink(&cache->queue, &entry->link);
    *find_link(cache, &entry->key) = entry->next;
    cache->bytes -= cost_of(entry);
    return entry;
}

void qc_cache_unref(QcCache *cache)
{
    if (!cache || !g_atomic_ref_count_dec(&cache->refs))
        return;
    while (cache->queue.head)
        qc_cached_unref(detach(cache, cache->queue.head->data));
    while (cache->n_inflaters > 0)
        qc_inflater_free(cache->inflaters[--cache->n_inflaters]);
    pthread_rwlock_destroy(&cache->lock);
    g_free(cache->buckets);
    g_free(cache);
}

uint64_t qc_cache_new_owner(QcCache *cache)
{
    pthread_rwlock_wrlock(&cache->lock);
    uint64_t owner = ++cache->last_owner;
    pthread_rwlock_unlock(&cache->lock);
    return owner;
}

QcCached *qc_cache_find(QcCache *cache, const QcCachedKey *key)
{
    pthread_rwlock_rdlock(&cache->lock);
    QcCached *entry = *find_link(cache, key);
    if (entry) {
        g_atomic_ref_count_inc(&entry->refs);
        if (!g_atomic_int_get(&entry->was_found)) /* not to write what others read */
            g_atomic_int_set(&entry->was_found, true);
    }
    pthread_rwlock_unlock(&cache->lock);
    return entry;
}

QcCached *qc_cached_new(const QcCachedKey *key, size_t size)
{
    QcCached *entry = g_try_malloc(sizeof(*entry) + size);
    if (!entry)
        return NULL;
    memset(entry, 0, sizeof(*entry));
    g_atomic_ref_count_init(&entry->refs);
    entry->key = *key;
    entry->link.data = entry;
    entry->size = size;
    return entry;
}

void qc_cached_unref(QcCached *entry)
{
    if (entry && g_atomic_ref_count_dec(&entry->refs))
        g_free(entry);
}

/* Under the lock, alone. The entry to be dropped next. */
static QcCached *detach_one(QcCache *cache)
{
    for (unsigned i = 0; i < MOST_SPARED; i++) {
        QcCached *entry = cache->queue.tail->data;
        if (!entry->was_found)
            break;
        entry->was_found = false;
        g_queue_unlink(&cache->queue, &entry->link);
        g_queue_push_head_link(&cache->queue, &entry->link);
    }
    return detach(cache, cache->queue.tail->data);
}

void qc_cache_add(QcCache *cache, QcCached *entry)
{
    if (cost_of(entry) > cache->max_bytes)
        return;
    GQueue dropped = G_QUEUE_INIT;
    pthread_rwlock_wrlock(&cache->lock);
    if (!*find_link(cache, &entry->key)) {
        while (cache->bytes + cost_of(entry) > cache->max_bytes) {
            QcCached *unused = detach_one(cache);
            g_queue_push_head_link(&dropped, &unused->link);
        }
        g_atomic_ref_count_inc(&entry->refs);
        QcCached **bucket = bucket_of(cache, &entry->key);
        entry->next = *bucket;
        *bucket = entry;
        g_queue_push_head_link(&cache->queue, &entry->link);
        cache->bytes += cost_of(entry);
    }
    pthread_rwlock_unlock(&cache->lock);
    for (GList *l; (l = g_queue_pop_head_link(&dropped));)
        qc_cached_unref(l->data);
}

QcInflater *qc_cache_get_inflater(QcCache *cache)
{
    QcInflater *inflater = NULL;
    pthread_rwlock_wrlock(&cache->lock);
    if (cache->n_inflaters > 0)
        inflater = cache->inflaters[--cache->n_inflaters];
    pthread_rwlock_unlock(&cache->lock);
    return inflater ? inflater : qc_inflater_new();
}

void qc_cache_put_inflater(QcCache *cache, QcInflater *inflater)
{
    pthread_rwlock_wrlock(&cache->lock);
    if (cache->n_inflaters < MAX_INFLATERS)
        cache->inflaters[cache->n_inflaters++] = g_steal_pointer(&inflater);
    pthread_rwlock_unlock(&cache->lock);
    qc_inflater_free(inflater);
}
