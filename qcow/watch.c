/*
 * watch.c - see watch.h.
 *
 * The kernel has one watch for a file, however often it is asked for; so has the watcher, counted.
 * Numbers of watches are not given out twice (not before 2^31 of them), so what is still said of
 * one that is gone means nobody.
 *
 * Lock: QcWatcher.lock protects the table, the references of watches, and that what was read from
 * the kernel is noted before anybody else goes by it. Counts are atomic, as they are read without.
 */
#include "watch.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    MIN_BUCKETS = 64,
    EVENTS_BYTES = 4096,
};

struct QcWatch {
    QcWatcher *watcher; /* a reference */
    QcWatch *next;      /* in its bucket; lock */
    unsigned refs;      /* lock */
    int number;
    _Atomic uint64_t last;
};

struct QcWatcher {
    gatomicrefcount refs;
    int fd;
    GMutex lock;
    QcWatch **buckets; /* n_buckets, a power of two, by number; lock */
    unsigned n_buckets, n_watches;
    _Atomic uint64_t count;
};

QcWatcher *qc_watcher_new(void)
{
    g_autofree QcWatcher *watcher = g_try_new0(QcWatcher, 1);
    if (!watcher)
        return NULL;
    watcher->n_buckets = MIN_BUCKETS;
    watcher->buckets = g_try_new0(QcWatch *, watcher->n_buckets);
    if (!watcher->buckets)
        return NULL;
    watcher->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watcher->fd < 0) {
        g_free(watcher->buckets);
        return NULL;
    }
    g_atomic_ref_count_init(&watcher->refs);
    g_mutex_init(&watcher->lock);
    atomic_init(&watcher->count, 1);
    return g_steal_pointer(&watcher);
}

QcWatcher *qc_watcher_ref(QcWatcher *watcher)
{
    g_atomic_ref_count_inc(&watcher->refs);
    return watcher;
}

void qc_watcher_unref(QcWatcher *watcher)
{
    if (!watcher || !g_atomic_ref_count_dec(&watcher->refs))
        return;
    close(watcher->fd);
    g_mutex_clear(&watcher->lock);
    g_free(watcher->buckets);
    g_free(watcher);
}

/* ---- the table; the lock is held ---------------------------------------------------------- */

/* What points at the watch with this number, or at the NULL where its bucket ends. */
static QcWatch **find_link(const QcWatcher *watcher, int number)
{
    QcWatch **link = &watcher->buckets[(unsigned)number & (watcher->n_buckets - 1)];
    while (*link && (*link)->number != number)
        link = &(*link)->next;
    return link;
}

/* Twice as many buckets, if there is memory; longer ones otherwise. */
static void grow(QcWatcher *watcher)
{
    QcWatch **old = watcher->buckets;
    unsigned n = watcher->n_buckets;
    QcWatch **buckets = g_try_new0(QcWatch *, 2 * (gsize)n);
    if (!buckets)
        return;
    watcher->buckets = buckets;
    watcher->n_buckets = 2 * n;
    for (unsigned i = 0; i < n; i++) {
        for (QcWatch *watch = old[i], *next; watch; watch = next) {
            QcWatch **link = find_link(watcher, watch->number);
            next = watch->next;
            watch->next = NULL;
            *link = watch;
        }
    }
    g_free(old);
}

static void insert(QcWatcher *watcher, QcWatch *watch)
{
    if (++watcher->n_watches > watcher->n_buckets)
        grow(watcher);
    *find_link(watcher, watch->number) = watch;
}

/* ---- what the kernel says ----------------------------------------------------------------- */

/* Something was lost: it may have been about any of them. */
static void note_all(QcWatcher *watcher, uint64_t count)
{
    for (unsigned i = 0; i < watcher->n_buckets; i++) {
        for (QcWatch *watch = watcher->buckets[i]; watch; watch = watch->next)
            atomic_store(&watch->last, MAX(atomic_load(&watch->last), count));
    }
}

static void note(QcWatcher *watcher, const struct inotify_event *event)
{
    uint64_t count = atomic_load(&watcher->count) + 1;
    if (event->mask & IN_Q_OVERFLOW) {
        note_all(watcher, count);
    } else {
        QcWatch *watch = *find_link(watcher, event->wd);
        if (!watch)
            return;
        bool over = event->mask & (IN_IGNORED | IN_UNMOUNT);
        atomic_store(&watch->last, over ? UINT64_MAX : MAX(atomic_load(&watch->last), count));
    }
    atomic_store(&watcher->count, count);
}

/* Note all that the kernel has to say. Lock held. */
static void listen(QcWatcher *watcher)
{
    _Alignas(struct inotify_event) char events[EVENTS_BYTES];
    ssize_t n;
    while ((n = read(watcher->fd, events, sizeof(events))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(events + at);
            note(watcher, event);
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
}

uint64_t qc_watcher_count(QcWatcher *watcher)
{
    g_mutex_lock(&watcher->lock);
    listen(watcher);
    g_mutex_unlock(&watcher->lock);
    return atomic_load(&watcher->count);
}

/* ---- watches ------------------------------------------------------------------------------ */

/* Ask the kernel, through the descriptor; a number, or -1. */
static int ask(const QcWatcher *watcher, int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return inotify_add_watch(watcher->fd, path, IN_MODIFY | IN_ATTRIB);
}

int qc_watch_new(QcWatcher *watcher, QcFile *file, QcWatch **ret)
{
    int fd = qc_file_fd(file);
    *ret = NULL;
    if (!watcher || fd < 0 || !qc_file_is_local(file))
        return 0;
    QcWatch *fresh = g_try_new0(QcWatch, 1), *watch = NULL;
    if (!fresh)
        return -ENOMEM;
    g_mutex_lock(&watcher->lock);
    int number = ask(watcher, fd);
    if (number >= 0)
        watch = *find_link(watcher, number);
    if (number >= 0 && !watch) {
        watch = g_steal_pointer(&fresh);
        watch->number = number;
        watch->watcher = qc_watcher_ref(watcher);
        insert(watcher, watch);
    }
    if (watch)
        watch->refs++;
    g_mutex_unlock(&watcher->lock);
    g_free(fresh);
    *ret = watch;
    return 0;
}

void qc_watch_unref(QcWatch *watch)
{
    if (!watch)
        return;
    QcWatcher *watcher = watch->watcher;
    g_mutex_lock(&watcher->lock);
    bool last = --watch->refs == 0;
    if (last) {
        *find_link(watcher, watch->number) = watch->next;
        watcher->n_watches--;
        inotify_rm_watch(watcher->fd, watch->number);
    }
    g_mutex_unlock(&watcher->lock);
    if (last) {
        g_free(watch);
        qc_watcher_unref(watcher);
    }
}

uint64_t qc_watch_last(const QcWatch *watch)
{
    return atomic_load(&watch->last);
}

QcWatcher *qc_watch_watcher(const QcWatch *watch)
{
    return watch->watcher;
}
