/*
 * A line is the tasks of one key that have not run to their end, the running one at the head.
 * A line is in the thread pool exactly once as long as it has tasks: a worker runs its head
 * and puts the line back behind the others, so one busy image does not starve the rest. The
 * workers are there from the start: one that could not be started later would be a command that
 * is never run.
 */
#include "serial.h"

typedef struct Task {
    void (*run)(gpointer data);
    gpointer data;
} Task;

typedef struct Line {
    char *key;
    GQueue tasks; /* of Task, owned; protected by Serial.lock */
} Line;

struct Serial {
    GThreadPool *pool; /* of Line */
    GMutex lock;
    GCond idle;
    GHashTable *lines; /* key (the line's) -> Line; protected by lock */
};

static void line_free(Line *line)
{
    g_free(line->key);
    g_free(line);
}

static void work(gpointer data, gpointer user_data)
{
    Line *line = data;
    Serial *serial = user_data;

    g_mutex_lock(&serial->lock);
    Task *task = g_queue_peek_head(&line->tasks);
    g_mutex_unlock(&serial->lock);

    task->run(task->data);

    g_mutex_lock(&serial->lock);
    g_free(g_queue_pop_head(&line->tasks));
    if (g_queue_is_empty(&line->tasks)) {
        g_hash_table_remove(serial->lines, line->key);
        if (g_hash_table_size(serial->lines) == 0)
            g_cond_broadcast(&serial->idle);
    } else {
        g_thread_pool_push(serial->pool, line, NULL);
    }
    g_mutex_unlock(&serial->lock);
}

Serial *serial_new(unsigned threads)
{
    Serial *serial = g_new0(Serial, 1);

    g_mutex_init(&serial->lock);
    g_cond_init(&serial->idle);
    serial->lines = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)line_free);
    serial->pool = g_thread_pool_new(work, serial, (gint)threads, TRUE, NULL);
    return serial;
}

void serial_drain(Serial *serial)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&serial->lock);

    while (g_hash_table_size(serial->lines) > 0)
        g_cond_wait(&serial->idle, &serial->lock);
}

void serial_free(Serial *serial)
{
    if (!serial)
        return;
    serial_drain(serial);
    g_thread_pool_free(serial->pool, FALSE, TRUE);
    g_hash_table_unref(serial->lines);
    g_cond_clear(&serial->idle);
    g_mutex_clear(&serial->lock);
    g_free(serial);
}

void serial_push(Serial *serial, const char *key, void (*task)(gpointer), gpointer data)
{
    Task *added = g_new0(Task, 1);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&serial->lock);
    Line *line = g_hash_table_lookup(serial->lines, key);

    *added = (Task){.run = task, .data = data};
    if (!line) {
        line = g_new0(Line, 1);
        line->key = g_strdup(key);
        g_hash_table_insert(serial->lines, line->key, line);
        g_thread_pool_push(serial->pool, line, NULL);
    }
    g_queue_push_tail(&line->tasks, added);
}
