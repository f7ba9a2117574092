/*
 * images.c - see images.h.
 *
 * The most recently used images stay open, bounded by number and by how many snapshots they have
 * together (a table of 65,536 takes megabytes). An image is used again only while all files beneath
 * it are what they were, by name and by stat; otherwise it is opened anew, and what is still the
 * same of its lower layers is taken over. Only a caller that found every layer unchanged makes it
 * the most recently used: a file that was removed is let go. A thread, the sweeper, closes images
 * that were not asked for in a while and that only the queue holds: an open file that was removed
 * keeps its space.
 *
 * Images.lock protects queue and table; images are opened and closed without it, and no other lock
 * is taken while it is held.
 */
#include "images.h"

#include <errno.h>

enum {
    KEPT_IMAGES = 32,
    KEPT_SNAPSHOTS = 131072,
    KEPT_SECONDS = 5,
};

typedef struct Kept {
    Image *image; /* a reference */
    gint64 used;  /* monotonic time of the last look-up, microseconds; Images.lock */
} Kept;

struct Images {
    QcGate *gate;
    QcCache *cache;
    GMutex lock;
    GQueue order;       /* of Kept, least recently used at the head; lock */
    GHashTable *links;  /* path (the image's) -> its GList in order; lock */
    unsigned snapshots; /* of all in order; lock */
    bool stop;          /* lock */
    GCond wake;         /* the sweeper: order is no longer empty, or stop */
    GThread *sweeper;
};

static Image *kept_image(const GList *link)
{
    return ((Kept *)link->data)->image;
}

static void kept_free(gpointer data)
{
    Kept *kept = data;

    image_unref(kept->image);
    g_free(kept);
}

/* Take an image out; the caller owns the reference. Lock held. */
static Image *take_out(Images *images, GList *link)
{
    Kept *kept = link->data;
    Image *image = g_steal_pointer(&kept->image);

    g_hash_table_remove(images->links, image_path(image));
    g_queue_delete_link(&images->order, link);
    kept_free(kept);
    images->snapshots -= image_n_snapshots(image);
    return image;
}

/* Lock held. */
static void move_to_tail(Images *images, GList *link)
{
    g_queue_unlink(&images->order, link);
    g_queue_push_tail_link(&images->order, link);
    ((Kept *)link->data)->used = g_get_monotonic_time();
}

/* Sleep until the least recently used image is due; NULL when it is time to stop. Lock held. */
static Image *wait_for_due(Images *images)
{
    while (!images->stop) {
        const Kept *oldest = g_queue_peek_head(&images->order);

        if (!oldest) {
            g_cond_wait(&images->wake, &images->lock);
            continue;
        }
        gint64 due = oldest->used + KEPT_SECONDS * G_TIME_SPAN_SECOND;
        if (due > g_get_monotonic_time())
            g_cond_wait_until(&images->wake, &images->lock, due);
        else if (image_is_shared(oldest->image)) /* it would stay open, and be opened once more */
            move_to_tail(images, images->order.head);
        else
            return take_out(images, images->order.head);
    }
    return NULL;
}

static gpointer sweep(gpointer data)
{
    Images *images = data;
    Image *due;

    do {
        g_mutex_lock(&images->lock);
        due = wait_for_due(images);
        g_mutex_unlock(&images->lock);
        image_unref(due);
    } while (due);
    return NULL;
}

Images *images_new(QcGate *gate, QcCache *cache)
{
    Images *images = g_new0(Images, 1);

    images->gate = qc_gate_ref(gate);
    images->cache = qc_cache_ref(cache);
    g_mutex_init(&images->lock);
    g_cond_init(&images->wake);
    images->links = g_hash_table_new(g_str_hash, g_str_equal);
    images->sweeper = g_thread_try_new("sweeper", sweep, images, NULL);
    if (images->sweeper)
        return images;
    images_free(images);
    return NULL;
}

void images_free(Images *images)
{
    if (!images)
        return;
    g_mutex_lock(&images->lock);
    images->stop = true;
    g_cond_signal(&images->wake);
    g_mutex_unlock(&images->lock);
    if (images->sweeper)
        g_thread_join(images->sweeper);

    g_hash_table_unref(images->links);
    g_queue_clear_full(&images->order, kept_free);
    g_cond_clear(&images->wake);
    g_mutex_clear(&images->lock);
    qc_cache_unref(images->cache);
    qc_gate_unref(images->gate);
    g_free(images);
}

/* Take out the image at a path; NULL when there is none. */
static Image *images_take(Images *images, const char *path)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&images->lock);
    GList *link = g_hash_table_lookup(images->links, path);

    return link ? take_out(images, link) : NULL;
}

static bool is_over_full(const Images *images)
{
    return images->order.length > KEPT_IMAGES ||
           (images->snapshots > KEPT_SNAPSHOTS && images->order.length > 1);
}

/* Put an image in, as the most recently used. */
static void images_keep(Images *images, Image *image)
{
    g_autoptr(GPtrArray) dropped = g_ptr_array_new_with_free_func((GDestroyNotify)image_unref);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED =
        g_mutex_locker_new(&images->lock); /* ends before dropped */
    GList *link = g_hash_table_lookup(images->links, image_path(image));
    Kept *kept = g_new0(Kept, 1);

    if (link)
        g_ptr_array_add(dropped, take_out(images, link));
    kept->image = image_ref(image);
    kept->used = g_get_monotonic_time();
    g_queue_push_tail(&images->order, kept);
    g_cond_signal(&images->wake);
    g_hash_table_insert(images->links, (char *)image_path(image), images->order.tail);
    images->snapshots += image_n_snapshots(image);
    while (is_over_full(images))
        g_ptr_array_add(dropped, take_out(images, images->order.head));
}

/* The image at a path if it is open; a new reference. */
static Image *images_peek(Images *images, const char *path)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&images->lock);
    GList *link = g_hash_table_lookup(images->links, path);

    return link ? image_ref(kept_image(link)) : NULL;
}

/* Make it the most recently used, unless it has been replaced. */
static void images_touch(Images *images, Image *image)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&images->lock);
    GList *link = g_hash_table_lookup(images->links, image_path(image));

    if (!link || kept_image(link) != image)
        return;
    move_to_tail(images, link);
}

int images_open(Images *images, const char *path, const StoreItem *item, Image **ret)
{
    g_autoptr(Image) kept = images_peek(images, path);

    return image_open(path, item, images->gate, images->cache, kept, IMAGE_FOR_DISK, ret);
}

int images_get(Images *images, const char *path, unsigned layers, Image **ret)
{
    g_auto(StoreItem) item = {0};
    g_autoptr(Image) kept = images_peek(images, path);

    if (kept && image_is_current(kept, images->gate, layers)) {
        if (layers >= image_n_layers(kept))
            images_touch(images, kept);
        *ret = g_steal_pointer(&kept);
        return 0;
    }
    int r = store_look(images->gate, path, &item);
    if (r == 0)
        r = item.kind == STORE_IMAGE
                ? image_open(path, &item, images->gate, images->cache, kept, IMAGE_FOR_ALL, ret)
                : -ENOENT;
    if (r == 0 && image_may_be_kept(*ret))
        images_keep(images, *ret); /* unsettled, it is only to take layers from */
    else
        images_drop(images, path);
    return r;
}

bool images_stat(Images *images, const char *path, QcFileStat *ret)
{
    g_autoptr(Image) kept = images_peek(images, path);

    if (!kept || !image_is_current(kept, images->gate, 1))
        return false;
    *ret = *image_stat(kept);
    return true;
}

int images_reopen(Images *images, const Image *image, Image **ret)
{
    return image_reopen(image, images->gate, images->cache, ret);
}

void images_drop(Images *images, const char *path)
{
    image_unref(images_take(images, path));
}
