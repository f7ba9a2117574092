/*
 * cache.c - see cache.h.
 *
 * A hash table of blocks and a list of them, most recently used first. Invariants, all under
 * the one lock: a block is in the table exactly when its link is in the list; the cache owns
 * one reference to it; bytes is the sum of what they cost and at most max_bytes. Readers keep
 * references, so a block may outlive its eviction. Keys are never reused for other contents:
 * an image that changed is a new owner, and what the old one left behind ages out.
 */
#include "cache.h"
#include <string.h>
#include <sys/random.h>

enum {
    MAX_INFLATERS = 16, /* kept for reuse; each up to some 200 KiB */
    OVERHEAD = 64,      /* of a block in the hash table and in malloc */
};

struct QcCache {
    gatomicrefcount refs;
    guint64 last_owner; /* under lock */
    GMutex lock;
    GHashTable *blocks; /* QcBlockKey in the block -> QcBlock */
    GQueue recent;      /* of links; head is the most recently used */
    size_t bytes, max_bytes;
    GPtrArray *inflaters;
};

static guint key_hash(gconstpointer p)
{
    const QcBlockKey *k = p;
    uint64_t h = (k->owner * 4 + k->kind) * UINT64_C(0x9e3779b97f4a7c15) ^ k->offset;
    h *= UINT64_C(0xbf58476d1ce4e5b9);
    return (guint)(h >> 32);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    const QcBlockKey *x = a, *y = b;
    return x->owner == y->owner && x->offset == y->offset && x->kind == y->kind;
}

QcCache *qc_cache_new(size_t max_bytes)
{
    QcCache *cache = g_new0(QcCache, 1);
    g_atomic_ref_count_init(&cache->refs);
    g_mutex_init(&cache->lock);
    cache->blocks = g_hash_table_new(key_hash, key_equal);
    cache->max_bytes = max_bytes;
    /* Nobody can choose offsets for their hashes when part of the key is not known. */
    uint32_t secret = 0;
    if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) > 0)
        cache->last_owner = (uint64_t)secret << 24;
    cache->inflaters = g_ptr_array_new_with_free_func((GDestroyNotify)qc_inflater_free);
    return cache;
}

QcCache *qc_cache_ref(QcCache *cache)
{
    g_atomic_ref_count_inc(&cache->refs);
    return cache;
}

static size_t cost_of(const QcBlock *block)
{
    return sizeof(*block) + block->size + OVERHEAD;
}

/* Under the lock. Takes the block out and returns the cache's reference. */
static QcBlock *detach(QcCache *cache, QcBlock *block)
{
    g_queue_unlink(&cache->recent, &block->link);
    g_hash_table_remove(cache->blocks, &block->key);
    cache->bytes -= cost_of(block);
    return block;
}

void qc_cache_unref(QcCache *cache)
{
    if (!cache || !g_atomic_ref_count_dec(&cache->refs))
        return;
    while (cache->recent.head)
        qc_block_unref(detach(cache, cache->recent.head->data));
    g_hash_table_unref(cache->blocks);
    g_ptr_array_unref(cache->inflaters);
    g_mutex_clear(&cache->lock);
    g_free(cache);
}

uint64_t qc_cache_new_owner(QcCache *cache)
{
    g_mutex_lock(&cache->lock);
    uint64_t owner = ++cache->last_owner;
    g_mutex_unlock(&cache->lock);
    return owner;
}

QcBlock *qc_cache_find(QcCache *cache, const QcBlockKey *key)
{
    g_mutex_lock(&cache->lock);
    QcBlock *block = g_hash_table_lookup(cache->blocks, key);
    if (block) {
        g_atomic_ref_count_inc(&block->refs);
        g_queue_unlink(&cache->recent, &block->link);
        g_queue_push_head_link(&cache->recent, &block->link);
    }
    g_mutex_unlock(&cache->lock);
    return block;
}

QcBlock *qc_block_new(const QcBlockKey *key, size_t size)
{
    QcBlock *block = g_try_malloc(sizeof(*block) + size);
    if (!block)
        return NULL;
    memset(block, 0, sizeof(*block));
    g_atomic_ref_count_init(&block->refs);
    block->key = *key;
    block->link.data = block;
    block->size = size;
    return block;
}

void qc_block_unref(QcBlock *block)
{
    if (block && g_atomic_ref_count_dec(&block->refs))
        g_free(block);
}

void qc_cache_add(QcCache *cache, QcBlock *block)
{
    if (cost_of(block) > cache->max_bytes)
        return;
    GQueue dropped = G_QUEUE_INIT;
    g_mutex_lock(&cache->lock);
    if (!g_hash_table_contains(cache->blocks, &block->key)) {
        while (cache->bytes + cost_of(block) > cache->max_bytes) {
            QcBlock *oldest = detach(cache, cache->recent.tail->data);
            g_queue_push_head_link(&dropped, &oldest->link);
        }
        g_atomic_ref_count_inc(&block->refs);
        g_hash_table_insert(cache->blocks, &block->key, block);
        g_queue_push_head_link(&cache->recent, &block->link);
        cache->bytes += cost_of(block);
    }
    g_mutex_unlock(&cache->lock);
    for (GList *l; (l = g_queue_pop_head_link(&dropped));)
        qc_block_unref(l->data);
}

QcInflater *qc_cache_get_inflater(QcCache *cache)
{
    QcInflater *inflater = NULL;
    g_mutex_lock(&cache->lock);
    if (cache->inflaters->len > 0)
        inflater = g_ptr_array_steal_index_fast(cache->inflaters, cache->inflaters->len - 1);
    g_mutex_unlock(&cache->lock);
    return inflater ? inflater : qc_inflater_new();
}

void qc_cache_put_inflater(QcCache *cache, QcInflater *inflater)
{
    g_mutex_lock(&cache->lock);
    if (cache->inflaters->len < MAX_INFLATERS) {
        g_ptr_array_add(cache->inflaters, inflater);
        inflater = NULL;
    }
    g_mutex_unlock(&cache->lock);
    qc_inflater_free(inflater);
}
