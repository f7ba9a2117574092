/*
 * image.c - see image.h.
 *
 * Everything but names and texts is set before the image is shared and never changes.
 * Names and texts are made on first use; Image.lock protects them, and no other lock is taken
 * while it is held.
 */
#include "image.h"

#include "acl.h"
#include "memory.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum {
    MANY_SNAPSHOTS = 4096, /* in small pieces of memory, which the C library would keep */
};

struct Image {
    gatomicrefcount refs;
    char *path;
    QcFileStat stat;
    bool is_link;
    ImageUse use;
    QcFormat format;
    const char *format_name;
    QcFile *file;
    QcImage *qc;
    QcImage *header; /* where qc is NULL and the header can be read: only to say what is in it */
    QcChain *chain;
    char *error;
    int shortage; /* 0, or what was short when it was opened: then nothing else is true */
    bool settled; /* stat will tell whether it is current */

    GMutex lock;
    Names *names;     /* set once, under lock; then immutable */
    GBytes *texts[2]; /* lock */
};

unsigned image_n_layers(const Image *image)
{
    return image->chain ? qc_chain_layers(image->chain) : 0;
}

static void set_error(Image *image, const char *message)
{
    if (!image->error)
        image->error = text_one_line(message);
}

/* Of an image that cannot be opened, read at least the header. 0, or what is short. */
static int open_header(Image *image, QcCache *cache)
{
    int r = image->format == QC_FORMAT_QCOW2
                ? qc_image_open_header(image->file, image->path, cache, &image->header)
                : 0;

    return qc_is_shortage(r) ? r : 0;
}

/*
 * Open the image; one whose table of snapshots or of bitmaps is broken without these, with an
 * error: its layers can be read. Else set what is wrong. Whether it is open.
 */
static bool open_file(Image *image, QcCache *cache)
{
    g_autoptr(GError) error = NULL;
    int r = (image->use == IMAGE_FOR_DISK ? qc_image_open_disk : qc_image_open)(
        image->file, image->path, image->format, cache, &image->qc, &error);

    if (r == 0)
        return true;
    set_error(image, error ? error->message : g_strerror(-r));
    if (r == -EUCLEAN)
        r = qc_image_open_disk(image->file, image->path, image->format, cache, &image->qc, NULL);
    if (r < 0)
        image->shortage = qc_is_shortage(r) ? r : open_header(image, cache);
    return r == 0;
}

/* How the files beneath are come by: qc_chain_open_like() or qc_chain_reopen(). */
typedef int (*OpenChain)(QcGate *, QcImage *top, QcCache *, const QcChain *like, QcChain **ret);

static void open_metadata(Image *image, QcGate *gate, QcCache *cache, OpenChain open_chain,
                          const Image *like)
{
    if (!open_file(image, cache))
        return;
    int r = open_chain(gate, image->qc, cache, like ? like->chain : NULL, &image->chain);
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

bool image_may_be_kept(const Image *image)
{
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        if (S_ISBLK(image_layer_info(image, i)->stat.mode))
            return false;
    }
    return image->chain != NULL;
}

/* Whether what is known of a layer stays true until its file's stat, or of the image's own its
 * header, is another. */
static bool is_lasting(const Image *image, unsigned layer)
{
    const QcImage *qc = qc_chain_image(image->chain, layer);

    return qc_image_trust(qc) >= (layer == 0 ? QC_TRUST_METADATA : QC_TRUST_ALL);
}

/*
 * Whether every later change of a file of the chain will show in its stat, or of the image's own in
 * its header; never of a device's. And whether the stat that all attributes come from is that of
 * what was opened.
 */
static bool is_settled(const Image *image)
{
    if (!image_may_be_kept(image) ||
        !qc_file_same_stat(&image->stat, &image_layer_info(image, 0)->stat))
        return false;
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        if (!is_lasting(image, i))
            return false;
    }
    return true;
}

static int open_item(const char *path, const StoreItem *item, QcGate *gate, QcCache *cache,
                     OpenChain open_chain, const Image *like, ImageUse use, Image **ret)
{
    g_autoptr(Image) image = g_new0(Image, 1);

    g_atomic_ref_count_init(&image->refs);
    g_mutex_init(&image->lock);
    image->path = g_strdup(path);
    image->stat = item->stat;
    image->is_link = item->is_link;
    image->use = use;
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
        open_metadata(image, gate, cache, open_chain, like);
    }
    image->settled = is_settled(image);
    if (image->shortage)
        return image->shortage;
    *ret = g_steal_pointer(&image);
    return 0;
}

int image_open(const char *path, const StoreItem *item, QcGate *gate, QcCache *cache,
               const Image *like, ImageUse use, Image **ret)
{
    return open_item(path, item, gate, cache, qc_chain_open_like, like, use, ret);
}

int image_reopen(const Image *image, QcGate *gate, QcCache *cache, Image **ret)
{
    StoreItem item = {
        .kind = STORE_IMAGE,
        .stat = image->stat,
        .is_link = image->is_link,
        .file = image->file,
        .format = image->format,
        .format_name = image->format_name,
    };

    /* What was written a moment ago could be written again without a new time stamp. Of the files
     * beneath, those that are opened anew are waited for then. */
    qc_file_settle(image->file, &item.stat);
    acl_limit(qc_file_fd(image->file), &item.stat);
    if (image->is_link)
        store_limit(gate, image->file, &item.stat);
    return open_item(image->path, &item, gate, cache, qc_chain_reopen, image, image->use, ret);
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

    bool is_large = image_n_snapshots(image) >= MANY_SNAPSHOTS;
    for (unsigned i = 0; i < G_N_ELEMENTS(image->texts); i++)
        g_clear_pointer(&image->texts[i], g_bytes_unref);
    names_free(image->names);
    qc_chain_free(image->chain);
    qc_image_unref(image->qc);
    qc_image_unref(image->header);
    qc_file_unref(image->file);
    g_mutex_clear(&image->lock);
    g_free(image->error);
    g_free(image->path);
    g_free(image);
    if (is_large)
        memory_give_back();
}

bool image_is_shared(Image *image)
{
    return !g_atomic_ref_count_compare(&image->refs, 1);
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

/* NULL: not even the header. */
static const QcImage *known(const Image *image)
{
    return image->qc ? image->qc : image->header;
}

const QcInfo *image_info(const Image *image)
{
    return known(image) ? qc_image_info(known(image)) : NULL;
}

int image_luks(const Image *image, QcLuks *ret)
{
    return qc_image_luks(known(image), ret);
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

int image_check_access(const Image *image, QcGate *gate, const Creds *creds)
{
    int r = creds_may(creds, &image->stat, CREDS_READ) ? 0 : -EACCES;

    if (r == 0)
        r = store_reach(gate, creds, image->path);
    return r == 0 && image->file ? store_reach_file(gate, creds, image->file) : r;
}

unsigned image_n_snapshots(const Image *image)
{
    return image->qc ? qc_image_info(image->qc)->n_snapshots : 0;
}

const QcSnapshot *image_snapshot(const Image *image, unsigned index)
{
    return &qc_image_info(image->qc)->snapshots[index];
}

const Names *image_names(Image *image)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&image->lock);

    const QcInfo *info = image->qc ? qc_image_info(image->qc) : NULL;
    if (!image->names && !info)
        image->names = names_new(NULL, 0);
    else if (!image->names && names_room_for(info, NAMES_BYTES))
        image->names = names_new(info->snapshots, info->n_snapshots);
    return image->names;
}

char *image_layer_name(const Image *image, unsigned layer)
{
    const char *base = store_base_name(qc_image_path(qc_chain_image(image->chain, layer)));
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

/* Whether its mode is what it was: that of a link's target has the directories above in it. */
static bool has_same_mode(const Image *image, QcGate *gate)
{
    if (!image->is_link)
        return true;

    QcFileStat stat = image_layer_stat(image, 0);
    store_limit(gate, image->file, &stat);
    return stat.mode == image->stat.mode;
}

bool image_is_current(const Image *image, QcGate *gate, unsigned layers)
{
    if (!image->settled || !has_same_mode(image, gate))
        return false;
    for (unsigned i = 0; i < MIN(layers, image_n_layers(image)); i++) {
        if (!qc_chain_layer_is_same(image->chain, gate, i))
            return false;
    }
    return layers <= image_n_layers(image) || !qc_chain_error(image->chain) ||
           qc_chain_error_stands(image->chain, gate);
}

/* Whether a layer is what it was, with all beneath, and every later change will show. */
static bool is_certain(const Image *image, QcGate *gate, unsigned layer)
{
    for (unsigned i = layer; i < image_n_layers(image); i++) {
        if (!is_lasting(image, i) || !qc_chain_layer_is_same(image->chain, gate, i))
            return false;
    }
    return !qc_chain_error(image->chain) || qc_chain_error_stands(image->chain, gate);
}

char *image_identity(const Image *image, QcGate *gate, unsigned layer)
{
    g_autoptr(GChecksum) sum = NULL;

    if ((layer == 0 && !image->settled) || !is_certain(image, gate, layer))
        return NULL;
    sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (unsigned i = layer; i < image_n_layers(image); i++) {
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
