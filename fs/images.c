/*
 * Image: everything but names and texts is set before the image is shared and never changes.
 * Names and texts are made on first use; Image.lock protects them.
 *
 * Images: the most recently used images stay open, bounded by number and by how many snapshots
 * they have together (a table of 65,536 takes megabytes). An image is used again only while
 * all files beneath it are what they were, by name and by stat; otherwise it is opened anew,
 * and what is still the same of its lower layers is taken over. Only who has found all of them
 * to be the same makes it the most recently used: a file that was removed is let go.
 * A thread closes those that nobody asked for in a while: an open file that was removed keeps
 * its space. Images.lock protects queue and table; images are opened and closed without it.
 *
 * No lock is taken while another is held.
 */
#include "images.h"

#include "acl.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum {
    KEPT_IMAGES = 32,
    KEPT_SNAPSHOTS = 131072,
    KEPT_SECONDS = 5,
};

struct Image {
    gatomicrefcount refs;
    char *path;
    QcFileStat stat;
    QcFormat format;
    const char *format_name;
    QcFile *file;
    QcImage *qc;
    QcChain *chain;
    char *error;
    int shortage; /* 0, or what was short when it was opened: then nothing else is true */
    bool settled; /* stat will tell whether it is current */
    gint64 used;  /* monotonic time of the last look-up, microseconds; Images.lock */

    GMutex lock;
    RawName *raw_names; /* what names borrow; lock */
    Names *names;       /* set once, under lock; then immutable */
    GBytes *texts[2];   /* lock */
};

struct Images {
    QcGate *gate;
    QcCache *cache;
    GMutex lock;
    GQueue order;       /* of Image (a reference), least recently used at the head; lock */
    GHashTable *links;  /* path (the image's) -> its GList in order; lock */
    unsigned snapshots; /* of all in order; lock */
    bool stop;          /* lock */
    GCond wake;         /* the sweeper: order is no longer empty, or stop */
    GThread *sweeper;
};

/* ---- one image --------------------------------------------------------------------------- */

unsigned image_n_layers(const Image *image)
{
    return image->chain ? qc_chain_layers(image->chain) : 0;
}

static void set_error(Image *image, const char *message)
{
    if (!image->error)
        image->error = text_one_line(message);
}

static void open_metadata(Image *image, const Images *images, const Image *like)
{
    g_autoptr(GError) error = NULL;
    int r =
        qc_image_open(image->file, image->path, image->format, images->cache, &image->qc, &error);

    if (r < 0) {
        image->shortage = qc_is_shortage(r) ? r : 0;
        set_error(image, error ? error->message : g_strerror(-r));
        return;
    }
    r = qc_chain_open_like(images->gate, image->qc, images->cache, like ? like->chain : NULL,
                           &image->chain);
    if (r < 0) {
        g_clear_pointer(&image->qc, qc_image_unref);
        image->shortage = r;
        set_error(image, g_strerror(-r));
        return;
    }
    if (qc_image_unsupported(image->qc)) {
        g_autofree char *message =
            g_strdup_printf("%s: %s", image->path, qc_image_unsupported(image->qc));

        set_error(image, message);
    }
    if (qc_chain_error(image->chain))
        set_error(image, qc_chain_error(image->chain));
}

/* Whether its files may stay open: a device is closed when nobody reads it. */
static bool may_be_kept(const Image *image)
{
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        if (S_ISBLK(image_layer_info(image, i)->stat.mode))
            return false;
    }
    return image->chain != NULL;
}

/*
 * Whether every later change of a file of the chain will show in its stat; never of a device's.
 * And whether the stat that all attributes come from is that of what was opened.
 */
static bool is_settled(const Image *image)
{
    if (!may_be_kept(image) || !qc_file_same_stat(&image->stat, &image_layer_info(image, 0)->stat))
        return false;
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        if (!qc_image_is_settled(qc_chain_image(image->chain, i)))
            return false;
    }
    return true;
}

/* like: the image of that path as it was opened before, or NULL. */
static Image *image_new(const Images *images, const char *path, const StoreItem *item,
                        const Image *like)
{
    Image *image = g_new0(Image, 1);

    g_atomic_ref_count_init(&image->refs);
    g_mutex_init(&image->lock);
    image->path = g_strdup(path);
    image->stat = item->stat;
    image->format = item->format;
    image->format_name = item->format_name;
    image->file = item->file ? qc_file_ref(item->file) : NULL;

    if (item->error) {
        set_error(image, item->error->message);
    } else if (item->format == QC_FORMAT_OTHER) {
        g_autofree char *message =
            g_strdup_printf("%s: the format %s is not supported", path, item->format_name);

        set_error(image, message);
    } else {
        open_metadata(image, images, like);
    }
    image->settled = is_settled(image);
    return image;
}

Image *image_ref(Image *image)
{
    g_atomic_ref_count_inc(&image->refs);
    return image;
}

void image_unref(Image *image)
{
    if (!image || !g_atomic_ref_count_dec(&image->refs))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(image->texts); i++)
        g_clear_pointer(&image->texts[i], g_bytes_unref);
    names_free(image->names);
    g_free(image->raw_names);
    qc_chain_free(image->chain);
    qc_image_unref(image->qc);
    qc_file_unref(image->file);
    g_mutex_clear(&image->lock);
    g_free(image->error);
    g_free(image->path);
    g_free(image);
}

const char *image_path(const Image *image)
{
    return image->path;
}

const QcFileStat *image_stat(const Image *image)
{
    return &image->stat;
}

const char *image_format(const Image *image)
{
    return image->format_name;
}

QcFile *image_file(const Image *image)
{
    return image->file;
}

QcImage *image_qc(const Image *image)
{
    return image->qc;
}

QcChain *image_chain(const Image *image)
{
    return image->chain;
}

const char *image_error(const Image *image)
{
    return image->error;
}

int image_readable(const Image *image)
{
    return !image->qc || qc_image_unsupported(image->qc) ? -EOPNOTSUPP : 0;
}

unsigned image_n_snapshots(const Image *image)
{
    return image->qc ? qc_image_info(image->qc)->n_snapshots : 0;
}

const QcSnapshot *image_snapshot(const Image *image, unsigned index)
{
    return &qc_image_info(image->qc)->snapshots[index];
}

/* Lock held. */
static void make_names(Image *image)
{
    unsigned count = image_n_snapshots(image);

    image->raw_names = g_new0(RawName, count);
    for (unsigned i = 0; i < count; i++) {
        const QcSnapshot *snapshot = image_snapshot(image, i);

        image->raw_names[i] =
            (RawName){.name = snapshot->name, .len = snapshot->name_len, .id = snapshot->id};
    }
    image->names = names_new(image->raw_names, count);
}

const Names *image_names(Image *image)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&image->lock);

    if (!image->names &&
        (!image->qc || qc_room_for_snapshots(qc_image_info(image->qc), NAMES_BYTES)))
        make_names(image);
    return image->names;
}

char *image_layer_name(const Image *image, unsigned layer)
{
    const char *path = qc_image_path(qc_chain_image(image->chain, layer));
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    g_autofree char *escaped = name_escape(base, strlen(base));
    g_autofree char *name = g_strdup_printf("%u-%s", layer, escaped);

    return name_fit(name, "");
}

bool image_find_layer(const Image *image, const char *name, unsigned *ret)
{
    guint64 layer = g_ascii_strtoull(name, NULL, 10);

    if (!g_ascii_isdigit(*name) || layer >= image_n_layers(image))
        return false;

    g_autofree char *wanted = image_layer_name(image, (unsigned)layer);
    *ret = (unsigned)layer;
    return strcmp(name, wanted) == 0;
}

const QcInfo *image_layer_info(const Image *image, unsigned layer)
{
    return qc_image_info(qc_chain_image(image->chain, layer));
}

QcFileStat image_layer_stat(const Image *image, unsigned layer)
{
    const QcImage *qc = qc_chain_image(image->chain, layer);
    QcFileStat stat = qc_image_info(qc)->stat;

    acl_limit(qc_file_fd(qc_image_file(qc)), &stat);
    return stat;
}

NodeFile image_layer_file(const Image *image, unsigned layer)
{
    const QcInfo *info = image_layer_info(image, layer);

    if (layer == 0 || info->format != QC_FORMAT_RAW || !S_ISREG(info->stat.mode))
        return (NodeFile){0};
    return (NodeFile){info->stat.dev, info->stat.ino};
}

/* Whether the first few layers are still what they were; all: and the chain ends as it did. */
static bool is_current(const Image *image, QcGate *gate, unsigned layers)
{
    if (!image->settled)
        return false;
    for (unsigned i = 0; i < MIN(layers, image_n_layers(image)); i++) {
        if (!qc_chain_layer_is_same(image->chain, gate, i))
            return false;
    }
    return layers <= image_n_layers(image) || !qc_chain_error(image->chain) ||
           qc_chain_error_stands(image->chain, gate);
}

char *image_identity(const Image *image, QcGate *gate)
{
    g_autoptr(GChecksum) sum = NULL;

    if (!is_current(image, gate, IMAGES_ALL_LAYERS))
        return NULL;
    sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        const QcFileStat *st = &image_layer_info(image, i)->stat;
        guint64 words[] = {st->dev, st->ino, st->size, (guint64)st->mtime, (guint64)st->ctime};

        g_checksum_update(sum, (const guchar *)words, sizeof(words));
    }
    return g_strdup(g_checksum_get_string(sum));
}

GBytes *image_get_text(Image *image, unsigned slot)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&image->lock);

    return image->texts[slot] ? g_bytes_ref(image->texts[slot]) : NULL;
}

void image_set_text(Image *image, unsigned slot, GBytes *text)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&image->lock);

    g_clear_pointer(&image->texts[slot], g_bytes_unref);
    image->texts[slot] = g_bytes_ref(text);
}

/* ---- those that are open ----------------------------------------------------------------- */

/* Take an image out; the caller owns the reference. Lock held. */
static Image *take_out(Images *images, GList *link)
{
    Image *image = link->data;

    g_hash_table_remove(images->links, image->path);
    g_queue_delete_link(&images->order, link);
    images->snapshots -= image_n_snapshots(image);
    return image;
}

/* Sleep until the least recently used image is due; NULL when it is time to stop. Lock held. */
static Image *wait_for_due(Images *images)
{
    while (!images->stop) {
        Image *oldest = g_queue_peek_head(&images->order);

        if (!oldest) {
            g_cond_wait(&images->wake, &images->lock);
            continue;
        }
        gint64 due = oldest->used + KEPT_SECONDS * G_TIME_SPAN_SECOND;
        if (due <= g_get_monotonic_time())
            return take_out(images, images->order.head);
        g_cond_wait_until(&images->wake, &images->lock, due);
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
    images->sweeper = g_thread_new("sweeper", sweep, images);
    return images;
}

void images_free(Images *images)
{
    if (!images)
        return;
    g_mutex_lock(&images->lock);
    images->stop = true;
    g_cond_signal(&images->wake);
    g_mutex_unlock(&images->lock);
    g_thread_join(images->sweeper);

    g_hash_table_unref(images->links);
    g_queue_clear_full(&images->order, (GDestroyNotify)image_unref);
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
    GList *link = g_hash_table_lookup(images->links, image->path);

    if (link)
        g_ptr_array_add(dropped, take_out(images, link));
    image->used = g_get_monotonic_time();
    g_queue_push_tail(&images->order, image_ref(image));
    g_cond_signal(&images->wake);
    g_hash_table_insert(images->links, image->path, images->order.tail);
    images->snapshots += image_n_snapshots(image);
    while (is_over_full(images))
        g_ptr_array_add(dropped, take_out(images, images->order.head));
}

/* The image at a path if it is open; a new reference. */
static Image *images_peek(Images *images, const char *path)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&images->lock);
    GList *link = g_hash_table_lookup(images->links, path);

    return link ? image_ref(link->data) : NULL;
}

/* Make it the most recently used, unless it has been replaced. */
static void images_touch(Images *images, Image *image)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&images->lock);
    GList *link = g_hash_table_lookup(images->links, image->path);

    if (!link || link->data != image)
        return;
    g_queue_unlink(&images->order, link);
    g_queue_push_tail_link(&images->order, link);
    image->used = g_get_monotonic_time();
}

static int open_like(const Images *images, const char *path, const StoreItem *item,
                     const Image *like, Image **ret)
{
    g_autoptr(Image) image = image_new(images, path, item, like);

    if (image->shortage)
        return image->shortage;
    *ret = g_steal_pointer(&image);
    return 0;
}

int images_open(Images *images, const char *path, const StoreItem *item, Image **ret)
{
    g_autoptr(Image) kept = images_peek(images, path);

    return open_like(images, path, item, kept, ret);
}

int images_get(Images *images, const char *path, unsigned layers, Image **ret)
{
    g_auto(StoreItem) item = {0};
    g_autoptr(Image) kept = images_peek(images, path);

    if (kept && is_current(kept, images->gate, layers)) {
        if (layers >= image_n_layers(kept))
            images_touch(images, kept);
        *ret = g_steal_pointer(&kept);
        return 0;
    }
    int r = store_look(images->gate, path, &item);
    if (r == 0)
        r = item.kind == STORE_IMAGE ? open_like(images, path, &item, kept, ret) : -ENOENT;
    if (r == 0 && may_be_kept(*ret))
        images_keep(images, *ret); /* unsettled, it is only to take layers from */
    else
        images_drop(images, path);
    return r;
}

bool images_stat(Images *images, const char *path, QcFileStat *ret)
{
    g_autoptr(Image) kept = images_peek(images, path);

    if (!kept || !is_current(kept, images->gate, 1))
        return false;
    *ret = kept->stat;
    return true;
}

int images_reopen(Images *images, const Image *image, Image **ret)
{
    StoreItem item = {
        .kind = STORE_IMAGE,
        .stat = image->stat,
        .file = image->file,
        .format = image->format,
        .format_name = image->format_name,
    };

    /* What was written a moment ago could be written again without a new time stamp. */
    qc_file_settle(image->file, &item.stat);
    acl_limit(qc_file_fd(image->file), &item.stat);
    for (unsigned i = 1; i < image_n_layers(image); i++)
        qc_file_settle(qc_image_file(qc_chain_image(image->chain, i)), NULL);
    return open_like(images, image->path, &item, image, ret);
}

void images_drop(Images *images, const char *path)
{
    image_unref(images_take(images, path));
}
