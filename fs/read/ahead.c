/*
 * ahead.c - see ahead.h.
 *
 * A reader that asks for one range after the other is given chunks, which threads of the pool fill
 * while earlier ones are on their way to the kernel: decoding uses all processors, and copying out
 * of the page cache happens next to the copying into the reply. A request that needs a chunk with
 * which no thread has begun fills it, so that no request waits for a busy pool. The threads are
 * there from the start: one that cannot be had later would leave chunks queued for ever. A thread
 * that has filled a chunk of a long chain then prepares what comes after it.
 *
 * A reader that waits for each answer and comes back at once (pace.c) is not to be disturbed
 * (aside.c), if one processor is enough to read ahead of it: always, but where clusters are decoded
 * for a reader in large pieces.
 *
 * The chunks of a file are neighbours, in the order of their offsets. A chunk is filled from one
 * view and never changes afterwards; the caller checks (reader.c) that the view was right until the
 * bytes are handed out. References keep a chunk, and its view, alive: the file has one, and so have
 * the thread that is to fill it and each reply.
 *
 * There are at most MAX_CHUNKS in the pool. When they are all in use, a file that has not been read
 * from for a while loses its own; while all files are read from, those that come later are read
 * without.
 *
 * AheadPool.lock protects everything that does not say otherwise; nothing else is called while it
 * is held. References of chunks are given up without it: that may close files.
 */
#include "ahead.h"

#include "aside.h"
#include "buffers.h"
#include "pace.h"

#include <sched.h>

enum {
    MAX_THREADS = 16,
    MAX_CHUNKS = 64,              /* 16 MiB */
    IDLE_BUFFERS = 16,            /* of chunks that are gone */
    START = AHEAD_CHUNK,          /* bytes read in order before anything is read ahead */
    MAX_WINDOW = 8 * AHEAD_CHUNK, /* bytes ahead of the reader */
    LARGE = 128 * 1024,           /* bytes; read so, clusters are decoded by all processors */
};

typedef enum ChunkState {
    CHUNK_QUEUED,
    CHUNK_RUNNING,
    CHUNK_FILLED,
    CHUNK_FAILED, /* or dropped before a thread began with it */
} ChunkState;

struct AheadChunk {
    gatomicrefcount refs;
    AheadPool *pool;
    QcView *view;
    uint64_t offset;
    size_t len;
    int for_processor; /* where it was asked for, if that is to be kept free */
    ChunkState state;  /* once FILLED or FAILED, it and the rest do not change */
    QcReading reading;
    void *data;
};

struct AheadPool {
    GMutex lock;
    GCond filled;  /* or failed: some chunk */
    GQueue recent; /* of Ahead; the one that was read from last at the head */
    Buffers *buffers;
    GThreadPool *threads;
    uint64_t n_passes;
    gint64 idle_us; /* immutable */
    gint n_chunks;  /* atomic */
    bool stop;      /* what is queued need not be filled any more */
};

struct Ahead {
    AheadPool *pool;
    bool waits;      /* the reader does, for each answer */
    uint64_t pass;   /* see ahead_pass(); immutable */
    GList link;      /* in pool->recent */
    GQueue chunks;   /* of AheadChunk */
    uint64_t next;   /* where the reader is expected */
    uint64_t streak; /* bytes that it has read in order */
    Pace pace;
};

/* ---- chunks ------------------------------------------------------------------------------ */

/* NULL: there are too many. */
static AheadChunk *chunk_new(AheadPool *pool, QcView *view, uint64_t offset, uint64_t pass)
{
    if (g_atomic_int_add(&pool->n_chunks, 1) >= MAX_CHUNKS) {
        g_atomic_int_add(&pool->n_chunks, -1);
        return NULL;
    }

    AheadChunk *chunk = g_new0(AheadChunk, 1);
    g_atomic_ref_count_init(&chunk->refs);
    chunk->pool = pool;
    chunk->view = qc_view_ref(view);
    chunk->offset = offset;
    chunk->len = (size_t)MIN(AHEAD_CHUNK, qc_view_size(view) - offset);
    chunk->reading.once = true;
    chunk->reading.pass = pass;
    return chunk;
}

static AheadChunk *chunk_ref(AheadChunk *chunk)
{
    g_atomic_ref_count_inc(&chunk->refs);
    return chunk;
}

void ahead_chunk_unref(AheadChunk *chunk)
{
    if (!chunk || !g_atomic_ref_count_dec(&chunk->refs))
        return;
    buffers_put(chunk->pool->buffers, chunk->data, AHEAD_CHUNK);
    g_atomic_int_add(&chunk->pool->n_chunks, -1);
    qc_view_unref(chunk->view);
    g_free(chunk);
}

static void chunks_clear(GQueue *chunks)
{
    g_queue_clear_full(chunks, (GDestroyNotify)ahead_chunk_unref);
}

const void *ahead_chunk_bytes(const AheadChunk *chunk, uint64_t offset, size_t len, size_t *ret_len)
{
    uint64_t skip = offset - chunk->offset;

    *ret_len = (size_t)MIN(len, chunk->len - skip);
    return chunk->reading.zeros ? NULL : (const char *)chunk->data + skip;
}

const QcReading *ahead_chunk_reading(const AheadChunk *chunk)
{
    return &chunk->reading;
}

static ChunkState fill(AheadChunk *chunk)
{
    chunk->data = buffers_get(chunk->pool->buffers, AHEAD_CHUNK);
    if (!chunk->data)
        return CHUNK_FAILED;

    ssize_t n = qc_view_fetch(chunk->view, chunk->data, chunk->len, chunk->offset, &chunk->reading);
    return n == (ssize_t)chunk->len ? CHUNK_FILLED : CHUNK_FAILED;
}

/*
 * Fill a chunk, unless another thread does; then, if so wanted, wait for that thread. Returns
 * whether the chunk is filled.
 */
static bool chunk_settle(AheadChunk *chunk, bool wait)
{
    AheadPool *pool = chunk->pool;

    g_mutex_lock(&pool->lock);
    if (chunk->state == CHUNK_QUEUED && pool->stop)
        chunk->state = CHUNK_FAILED;
    if (chunk->state == CHUNK_QUEUED) {
        chunk->state = CHUNK_RUNNING;
        g_mutex_unlock(&pool->lock);
        ChunkState state = fill(chunk);
        g_mutex_lock(&pool->lock);
        chunk->state = state;
        g_cond_broadcast(&pool->filled);
    }
    while (wait && chunk->state == CHUNK_RUNNING)
        g_cond_wait(&pool->filled, &pool->lock);
    bool filled = chunk->state == CHUNK_FILLED;
    g_mutex_unlock(&pool->lock);
    return filled;
}

static void fill_in_thread(gpointer data, gpointer unused)
{
    AheadChunk *chunk = data;

    (void)unused;
    aside_stay(chunk->for_processor);
    if (chunk_settle(chunk, false))
        qc_view_prepare(chunk->view, chunk->offset);
    ahead_chunk_unref(chunk);
}

/* ---- the pool ---------------------------------------------------------------------------- */

AheadPool *ahead_pool_new(unsigned threads, gint64 idle_us)
{
    AheadPool *pool = g_new0(AheadPool, 1);

    g_mutex_init(&pool->lock);
    g_cond_init(&pool->filled);
    pool->buffers = buffers_new(AHEAD_CHUNK, IDLE_BUFFERS);
    pool->idle_us = idle_us;
    pool->threads =
        g_thread_pool_new(fill_in_thread, NULL, (gint)MIN(threads, MAX_THREADS), TRUE, NULL);
    if (g_thread_pool_get_num_threads(pool->threads) > 0)
        return pool;
    ahead_pool_free(pool);
    return NULL;
}

void ahead_pool_free(AheadPool *pool)
{
    if (!pool)
        return;
    g_mutex_lock(&pool->lock);
    pool->stop = true;
    g_mutex_unlock(&pool->lock);
    g_thread_pool_free(pool->threads, FALSE, TRUE);
    buffers_free(pool->buffers);
    g_cond_clear(&pool->filled);
    g_mutex_clear(&pool->lock);
    g_free(pool);
}

Ahead *ahead_new(AheadPool *pool, unsigned reader)
{
    Ahead *ahead = g_new0(Ahead, 1);

    ahead->pool = pool;
    ahead->waits = reader & AHEAD_WAITS;
    ahead->link.data = ahead;
    g_mutex_lock(&pool->lock);
    g_queue_push_tail_link(&pool->recent, &ahead->link);
    if (reader & AHEAD_PASSES)
        ahead->pass = ++pool->n_passes;
    g_mutex_unlock(&pool->lock);
    return ahead;
}

uint64_t ahead_pass(const Ahead *ahead)
{
    return ahead->pass;
}

/* ---- below, the pool's lock is held ------------------------------------------------------ */

/* Let go of the first chunk; the caller gets the reference. */
static void drop_first(Ahead *ahead, GQueue *dropped)
{
    AheadChunk *chunk = g_queue_pop_head(&ahead->chunks);

    if (chunk->state == CHUNK_QUEUED)
        chunk->state = CHUNK_FAILED;
    g_queue_push_tail(dropped, chunk);
}

static void drop_all(Ahead *ahead, GQueue *dropped)
{
    while (ahead->chunks.length > 0)
        drop_first(ahead, dropped);
}

/* Note what is read. Whether it continues what was read before, for long enough. */
static bool is_in_order(Ahead *ahead, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    uint64_t apart = offset > ahead->next ? offset - ahead->next : ahead->next - offset;

    /* The kernel reads ahead as well, and its requests overtake one another. */
    if (apart <= 2 * (uint64_t)len) {
        ahead->streak += len;
        ahead->next = MAX(ahead->next, end);
    } else {
        ahead->streak = 0;
        ahead->next = end;
    }
    return ahead->streak >= START;
}

/* Drop chunks that the reader has left behind, or that are not of this view. */
static void drop_useless(Ahead *ahead, const QcView *view, uint64_t offset, size_t len,
                         GQueue *dropped)
{
    const AheadChunk *first, *last;

    while ((first = g_queue_peek_head(&ahead->chunks)) &&
           (first->view != view || first->offset + AHEAD_CHUNK + len <= offset))
        drop_first(ahead, dropped);
    last = g_queue_peek_tail(&ahead->chunks);
    if (last && last->offset + AHEAD_CHUNK < offset / AHEAD_CHUNK * AHEAD_CHUNK)
        drop_all(ahead, dropped);
}

/* Take the chunks away from the file that has not been read from for the longest time. */
static void take_from_idle(Ahead *ahead, GQueue *dropped)
{
    for (GList *link = ahead->pool->recent.tail; link->data != ahead; link = link->prev) {
        Ahead *other = link->data;

        if (ahead->pace.asked - other->pace.asked < ahead->pool->idle_us)
            return;
        if (other->chunks.length > 0) {
            drop_all(other, dropped);
            return;
        }
    }
}

/* The processor that the caller is on, if those who read ahead are to keep off it. */
static int processor_to_keep(Ahead *ahead, size_t len)
{
    const AheadChunk *first = g_queue_peek_head(&ahead->chunks);

    if (!ahead->waits || !pace_is_quick(&ahead->pace) || !first || first->state != CHUNK_FILLED)
        return ASIDE_ANYWHERE;
    return first->reading.decoded && len >= LARGE ? ASIDE_ANYWHERE : sched_getcpu();
}

/* Queue what is missing, up to the end of the window, and give a reference of each. */
static void extend(Ahead *ahead, QcView *view, uint64_t offset, size_t len, GQueue *queued,
                   GQueue *dropped)
{
    const AheadChunk *last = g_queue_peek_tail(&ahead->chunks);
    uint64_t at = last ? last->offset + AHEAD_CHUNK : offset / AHEAD_CHUNK * AHEAD_CHUNK;
    uint64_t window = MIN(ahead->streak, MAX_WINDOW);
    uint64_t end = MIN(offset + len + window, qc_view_size(view));
    int processor = processor_to_keep(ahead, len);

    for (; at < end; at += AHEAD_CHUNK) {
        AheadChunk *chunk = chunk_new(ahead->pool, view, at, ahead->pass);

        if (!chunk) {
            take_from_idle(ahead, dropped);
            return;
        }
        chunk->for_processor = processor;
        g_queue_push_tail(&ahead->chunks, chunk);
        g_queue_push_tail(queued, chunk_ref(chunk));
    }
}

/* References of the chunks that a range lies in; 0 when one is missing. */
static unsigned find(Ahead *ahead, uint64_t offset, size_t len, AheadChunk **ret)
{
    const AheadChunk *first = g_queue_peek_head(&ahead->chunks);
    const AheadChunk *last = g_queue_peek_tail(&ahead->chunks);
    unsigned n = 0;

    if (!first || offset < first->offset || offset + len > last->offset + last->len)
        return 0;
    for (GList *link = ahead->chunks.head; link; link = link->next) {
        AheadChunk *chunk = link->data;

        if (chunk->offset + chunk->len > offset && chunk->offset < offset + len)
            ret[n++] = chunk_ref(chunk);
    }
    return n;
}

/* ---- reading; the lock is not held ------------------------------------------------------- */

void ahead_free(Ahead *ahead)
{
    GQueue dropped = G_QUEUE_INIT;

    if (!ahead)
        return;
    g_mutex_lock(&ahead->pool->lock);
    drop_all(ahead, &dropped);
    g_queue_unlink(&ahead->pool->recent, &ahead->link);
    g_mutex_unlock(&ahead->pool->lock);
    chunks_clear(&dropped);
    g_free(ahead);
}

/* Whether all are filled; if not, gives up the references. */
static bool settle_all(AheadChunk **chunks, unsigned n)
{
    bool filled = true;

    for (unsigned i = 0; i < n; i++)
        filled = chunk_settle(chunks[i], true) && filled;
    for (unsigned i = 0; i < n && !filled; i++)
        ahead_chunk_unref(chunks[i]);
    return filled;
}

unsigned ahead_get(Ahead *ahead, QcView *view, uint64_t offset, size_t len, AheadChunk **ret_chunks)
{
    AheadPool *pool = ahead->pool;
    GQueue dropped = G_QUEUE_INIT, queued = G_QUEUE_INIT;
    unsigned n = 0;

    g_mutex_lock(&pool->lock);
    if (is_in_order(ahead, offset, len)) {
        g_queue_unlink(&pool->recent, &ahead->link);
        g_queue_push_head_link(&pool->recent, &ahead->link);
        pace_asked(&ahead->pace, g_get_monotonic_time(), len);
        drop_useless(ahead, view, offset, len, &dropped);
        extend(ahead, view, offset, len, &queued, &dropped);
        n = find(ahead, offset, len, ret_chunks);
    } else {
        drop_all(ahead, &dropped);
    }
    g_mutex_unlock(&pool->lock);

    for (AheadChunk *chunk; (chunk = g_queue_pop_head(&queued));)
        g_thread_pool_push(pool->threads, chunk, NULL);
    chunks_clear(&dropped);
    if (n == 0 || !settle_all(ret_chunks, n))
        return 0;
    g_mutex_lock(&pool->lock);
    pace_handed(&ahead->pace, g_get_monotonic_time());
    g_mutex_unlock(&pool->lock);
    return n;
}
