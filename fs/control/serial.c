/*
 * serial.c - see serial.h.
 *
 * A Queue is the tasks of one key that wait. It is in the thread pool exactly once as long as it
 * has tasks or one of them runs: a worker runs its first task and puts the queue back behind the
 * others, so one busy image does not starve the rest. The workers are there from the start: one
 * that could not be started later would be a command that is never run.
 *
 * One more thread looks at the tasks that wait, for as long as any do, and takes out of their
 * queues those that are not wanted any more.
 *
 * Serial.lock protects the queues; tasks are run and dropped without it.
 */
#include "serial.h"

#define LOOK_INTERVAL (100 * G_TIME_SPAN_MILLISECOND)

typedef struct Task {
    const SerialKind *kind;
    gpointer data;
} Task;

typedef struct Queue {
    char *key;
    GQueue tasks; /* of Task, owned: those that wait; protected by Serial.lock */
} Queue;

struct Serial {
    GThreadPool *pool; /* of Queue */
    GThread *watcher;
    GMutex lock;
    GCond idle;
    GCond more;         /* a task waits, or it is over */
    GHashTable *queues; /* key (the queue's) -> Queue; protected by lock */
    unsigned waiting;   /* tasks; lock */
    unsigned dropping;  /* tasks that have left their queues; lock */
    bool over;          /* lock */
};

static void queue_free(Queue *queue)
{
    g_free(queue->key);
    g_free(queue);
}

/* Lock held. */
static bool is_idle(const Serial *serial)
{
    return g_hash_table_size(serial->queues) == 0 && serial->dropping == 0;
}

/* Lock held. */
static void tell_when_idle(Serial *serial)
{
    if (is_idle(serial))
        g_cond_broadcast(&serial->idle);
}

static void work(gpointer data, gpointer user_data)
{
    Queue *queue = data;
    Serial *serial = user_data;

    g_mutex_lock(&serial->lock);
    g_autofree Task *task = g_queue_pop_head(&queue->tasks); /* NULL: it was dropped */
    serial->waiting -= task ? 1 : 0;
    g_mutex_unlock(&serial->lock);

    if (task)
        task->kind->run(task->data);

    g_mutex_lock(&serial->lock);
    if (g_queue_is_empty(&queue->tasks))
        g_hash_table_remove(serial->queues, queue->key);
    else
        g_thread_pool_push(serial->pool, queue, NULL);
    tell_when_idle(serial);
    g_mutex_unlock(&serial->lock);
}

/* ---- what waits and is not wanted -------------------------------------------------------- */

/* Move the unwanted tasks of a queue; lock held. */
static void take_unwanted(Serial *serial, Queue *queue, GQueue *unwanted)
{
    for (GList *at = queue->tasks.head, *next; at; at = next) {
        Task *task = at->data;

        next = at->next;
        if (!task->kind->unwanted || !task->kind->unwanted(task->data))
            continue;
        g_queue_unlink(&queue->tasks, at);
        g_queue_push_tail_link(unwanted, at);
        serial->waiting--;
        serial->dropping++;
    }
}

/* Lock held, but not while tasks are dropped. */
static void drop_unwanted(Serial *serial)
{
    GQueue unwanted = G_QUEUE_INIT;
    GHashTableIter iter;
    gpointer queue;

    g_hash_table_iter_init(&iter, serial->queues);
    while (g_hash_table_iter_next(&iter, NULL, &queue))
        take_unwanted(serial, queue, &unwanted);

    while (!g_queue_is_empty(&unwanted)) {
        g_autofree Task *task = g_queue_pop_head(&unwanted);

        g_mutex_unlock(&serial->lock);
        task->kind->drop(task->data);
        g_mutex_lock(&serial->lock);
        serial->dropping--;
    }
    tell_when_idle(serial);
}

static gpointer watch(gpointer data)
{
    Serial *serial = data;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&serial->lock);

    while (!serial->over) {
        if (serial->waiting == 0) {
            g_cond_wait(&serial->more, &serial->lock);
            continue;
        }
        gint64 until = g_get_monotonic_time() + LOOK_INTERVAL;
        while (!serial->over && g_cond_wait_until(&serial->more, &serial->lock, until))
            ;
        drop_unwanted(serial);
    }
    return NULL;
}

/* ---- the whole --------------------------------------------------------------------------- */

Serial *serial_new(unsigned threads)
{
    Serial *serial = g_new0(Serial, 1);

    g_mutex_init(&serial->lock);
    g_cond_init(&serial->idle);
    g_cond_init(&serial->more);
    serial->queues =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)queue_free);
    serial->pool = g_thread_pool_new(work, serial, (gint)threads, TRUE, NULL);
    serial->watcher = g_thread_try_new("watch", watch, serial, NULL);
    if (serial->watcher && g_thread_pool_get_num_threads(serial->pool) > 0)
        return serial;
    serial_free(serial);
    return NULL;
}

void serial_drain(Serial *serial)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&serial->lock);

    while (!is_idle(serial))
        g_cond_wait(&serial->idle, &serial->lock);
}

static void stop_watcher(Serial *serial)
{
    g_mutex_lock(&serial->lock);
    serial->over = true;
    g_cond_broadcast(&serial->more);
    g_mutex_unlock(&serial->lock);
    if (serial->watcher)
        g_thread_join(serial->watcher);
}

void serial_free(Serial *serial)
{
    if (!serial)
        return;
    serial_drain(serial);
    stop_watcher(serial);
    g_thread_pool_free(serial->pool, FALSE, TRUE);
    g_hash_table_unref(serial->queues);
    g_cond_clear(&serial->more);
    g_cond_clear(&serial->idle);
    g_mutex_clear(&serial->lock);
    g_free(serial);
}

void serial_push(Serial *serial, const char *key, const SerialKind *kind, gpointer data)
{
    Task *added = g_new0(Task, 1);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&serial->lock);
    Queue *queue = g_hash_table_lookup(serial->queues, key);

    *added = (Task){.kind = kind, .data = data};
    if (!queue) {
        queue = g_new0(Queue, 1);
        queue->key = g_strdup(key);
        g_hash_table_insert(serial->queues, queue->key, queue);
        g_thread_pool_push(serial->pool, queue, NULL);
    }
    g_queue_push_tail(&queue->tasks, added);
    serial->waiting++;
    g_cond_signal(&serial->more);
}
