/*
 * chain.c - an image and its backing files.
 *
 * Built once, from the top down for the images and from the bottom up for the views. It never
 * follows a name itself: the gate does. A layer that cannot be had ends the chain with a
 * broken view, so that what the layers above hold themselves can still be read.
 */
#include "error.h"
#include "staleness.h"
#include "strings.h"
#include "view.h"

typedef struct Layer {
    QcImage *image;
    QcView *view; /* with all beneath */
} Layer;

struct QcChain {
    Layer *layers; /* top first */
    unsigned n_layers, room;
    QcView *bottom;      /* beneath the last image: broken, or NULL when the chain is complete */
    GError *error;       /* the first; layers that are there all the same may follow */
    int open_error;      /* what came of opening the last file that the gate was asked for ... */
    QcFileStat refused;  /* ... and that file, if it was opened: refused, when there is an error */
    const QcChain *held; /* while this one is opened: whose files to stay on; or NULL */
};

/* The format to open a backing file with, when the header of the overlay states format. */
static int stated_format(const char *format, QcFormat *ret, GError **error)
{
    if (g_str_equal(format, "qcow2"))
        *ret = QC_FORMAT_QCOW2;
    else if (g_str_equal(format, "raw") || g_str_equal(format, "file") ||
             g_str_equal(format, "host_device"))
        *ret = QC_FORMAT_RAW;
    else
        return qc_fail(error, -EOPNOTSUPP, "backing files of format %s are not supported", format);
    return 0;
}

/*
 * The format is not stated. It is raw, unless the file looks like something else: then either
 * an old tool made the overlay, or the guest of a raw disk wrote the header of an image into
 * it, which names a file that the guest wants to see. Only backing=any takes the risk.
 */
static int unstated_format(QcGate *gate, const QcImage *overlay, QcFile *file, QcFormat *ret,
                           GError **error)
{
    QcFormat format;
    const char *name;
    int err = qc_probe(file, "", &format, &name);
    if (err < 0)
        return qc_fail(error, err, "the backing file cannot be read: %s", g_strerror(-err));
    if (format == QC_FORMAT_NONE)
        format = QC_FORMAT_RAW;
    bool allowed = format == QC_FORMAT_RAW || qc_gate_policy(gate) == QC_BACKING_ANY;
    if (!allowed || format == QC_FORMAT_OTHER)
        return qc_fail(error, -EPERM,
                       "the backing file %s looks like %s, but its format is not stated; if it is, "
                       "state it: qemu-img rebase -u -b %s -F %s %s",
                       overlay->info.backing_file, name, overlay->info.backing_file, name,
                       overlay->path);
    *ret = format;
    return 0;
}

static QcImage *lowest_image(const QcChain *chain)
{
    return chain->layers[chain->n_layers - 1].image;
}

static bool names_the_same(const QcImage *a, const QcImage *b)
{
    return g_str_equal(a->path, b->path) &&
           g_strcmp0(a->info.backing_file, b->info.backing_file) == 0 &&
           g_strcmp0(a->info.backing_format, b->info.backing_format) == 0;
}

/* The layer beneath the lowest one from another chain, if the names are the same there; borrowed.
 */
static QcImage *layer_of(const QcChain *other, const QcChain *chain)
{
    unsigned layer = chain->n_layers;
    bool same = other && layer < other->n_layers &&
                names_the_same(other->layers[layer - 1].image, lowest_image(chain));
    return same ? other->layers[layer].image : NULL;
}

/* Open the file that overlay names, whatever it is, and note for later how that went. */
static int open_backing_file(QcChain *chain, QcGate *gate, QcImage *overlay, char **ret_path,
                             QcFile **ret, GError **error)
{
    const QcImage *held = layer_of(chain->held, chain);
    int err = 0;
    if (held) {
        *ret = qc_file_ref(held->file);
        *ret_path = qc_strdup_printf("%s", held->path);
        if (!*ret_path)
            err = qc_fail(error, -ENOMEM, "no memory for the name of a backing file");
    } else {
        err = gate ? qc_gate_open_backing(gate, overlay->path, overlay->info.backing_file, ret_path,
                                          ret, error)
                   : qc_fail(error, -EPERM, "backing files are not opened here");
    }
    chain->open_error = err;
    if (err < 0)
        return err;
    err = qc_file_settle(*ret, &chain->refused);
    return err ? qc_fail(error, err, "%s: %s", *ret_path, g_strerror(-err)) : 0;
}

/*
 * One whose table of snapshots or of bitmaps is broken is opened without these. That is an error of
 * the chain, as nobody else opens such a layer, but its bytes, and those beneath, can be had.
 */
static int open_image(QcChain *chain, QcFile *file, const char *path, QcFormat format,
                      QcCache *cache, QcImage **ret, GError **error)
{
    g_autoptr(GError) local = NULL;
    int err = qc_image_open(file, path, format, cache, ret, &local);
    if (err == -EUCLEAN) {
        int disk_err = qc_image_open_disk(file, path, format, cache, ret, NULL);
        if (!disk_err && !chain->error)
            chain->error = g_steal_pointer(&local);
        if (!disk_err || qc_is_shortage(disk_err))
            return disk_err;
    }
    if (err < 0)
        g_propagate_error(error, g_steal_pointer(&local));
    return err;
}

static int open_backing(QcChain *chain, QcGate *gate, QcImage *overlay, QcCache *cache,
                        QcImage **ret, GError **error)
{
    const QcInfo *info = &overlay->info;
    g_autofree char *path = NULL;
    g_autoptr(QcFile) file = NULL;
    int err = open_backing_file(chain, gate, overlay, &path, &file, error);
    if (err < 0)
        return err;
    QcFormat format = QC_FORMAT_NONE;
    if (info->backing_format)
        err = stated_format(info->backing_format, &format, error);
    else
        err = unstated_format(gate, overlay, file, &format, error);
    if (err < 0)
        return err;
    err = open_image(chain, file, path, format, cache, ret, error);
    if (!err && !qc_file_same_stat(&chain->refused, &(*ret)->info.stat))
        (*ret)->trust =
            QC_TRUST_NOTHING; /* it was changed between the look at its format and now */
    return err;
}

static bool chain_has(const QcChain *chain, const QcImage *image)
{
    for (unsigned i = 0; i < chain->n_layers; i++)
        if (qc_file_same_file(&chain->layers[i].image->info.stat, &image->info.stat))
            return true;
    return false;
}

/* Put an image beneath all others. Takes a reference. */
static int append(QcChain *chain, QcImage *image)
{
    if (chain->n_layers == chain->room) {
        unsigned room = MAX(1, chain->room * 2);
        Layer *grown = g_try_renew(Layer, chain->layers, room);
        if (!grown)
            return -ENOMEM;
        chain->layers = grown;
        chain->room = room;
    }
    chain->layers[chain->n_layers++] = (Layer){.image = qc_image_ref(image)};
    return 0;
}

/* The layer beneath the lowest one from another chain, if it is the same there; borrowed. One that
 * is broken is opened anew, to tell why. */
static QcImage *layer_in(const QcChain *like, const QcChain *chain, QcGate *gate)
{
    QcImage *image = layer_of(like, chain);
    bool same = image && image->trust == QC_TRUST_ALL && !image->disk_only &&
                qc_chain_layer_is_same(like, gate, chain->n_layers);
    return same ? image : NULL;
}

/* Add the layer beneath the lowest one. 1 when there was one, 0 when there is none. */
static int add_layer(QcChain *chain, QcGate *gate, QcCache *cache, const QcChain *like,
                     GError **error)
{
    QcImage *lowest = lowest_image(chain);
    const char *unsupported = qc_image_unsupported(lowest);
    if (unsupported)
        return qc_fail(error, -EOPNOTSUPP, "%s: %s", lowest->path, unsupported);
    if (!lowest->info.backing_file)
        return 0;
    if (chain->n_layers >= QC_MAX_LAYERS)
        return qc_fail(error, -ELOOP, "the backing chain has more than %u layers", QC_MAX_LAYERS);

    QcImage *known = layer_in(like, chain, gate);
    g_autoptr(QcImage) image = known ? qc_image_ref(known) : NULL;
    int err = known ? 0 : open_backing(chain, gate, lowest, cache, &image, error);
    if (err < 0) {
        g_prefix_error(error, "%s: ", lowest->path);
        return err;
    }
    if (chain_has(chain, image))
        return qc_fail(error, -ELOOP, "%s: its backing chain is a loop through %s", lowest->path,
                       image->path);
    err = append(chain, image);
    return err ? qc_fail(error, err, "%s: no memory", image->path) : 1;
}

/* The active view of one layer; NULL: no memory. Takes over beneath. */
static QcView *layer_view(QcImage *image, QcView *beneath)
{
    if (qc_image_unsupported(image)) {
        qc_view_unref(beneath);
        return qc_view_new_broken(image, image->info.virtual_size, -EOPNOTSUPP);
    }
    return image->info.format == QC_FORMAT_RAW ? qc_view_new_raw(image)
                                               : qc_view_new_active(image, beneath);
}

static int make_views(QcChain *chain)
{
    QcView *beneath = chain->bottom;
    for (unsigned i = chain->n_layers; i-- > 0;) {
        QcView *own = beneath ? qc_view_ref(beneath) : NULL;
        beneath = layer_view(chain->layers[i].image, own);
        if (!beneath)
            return -ENOMEM;
        chain->layers[i].view = beneath;
    }
    return 0;
}

static int open_chain(QcGate *gate, QcImage *top, QcCache *cache, const QcChain *like,
                      const QcChain *held, QcChain **ret)
{
    g_autoptr(QcChain) chain = g_try_new0(QcChain, 1);
    if (!chain)
        return -ENOMEM;
    chain->held = held;
    int more = append(chain, top);
    if (more < 0)
        return more;
    g_autoptr(GError) error = NULL;
    do
        more = add_layer(chain, gate, cache, like, &error);
    while (more == 1);
    chain->held = NULL;
    if (error && !chain->error)
        chain->error = g_steal_pointer(&error);
    if (qc_is_shortage(more))
        return more;
    if (more < 0) {
        chain->bottom = qc_view_new_broken(NULL, UINT64_MAX, more);
        if (!chain->bottom)
            return -ENOMEM;
    }
    int err = make_views(chain);
    if (!err)
        *ret = g_steal_pointer(&chain);
    return err;
}

int qc_chain_open(QcGate *gate, QcImage *top, QcCache *cache, QcChain **ret)
{
    return open_chain(gate, top, cache, NULL, NULL, ret);
}

int qc_chain_open_like(QcGate *gate, QcImage *top, QcCache *cache, const QcChain *like,
                       QcChain **ret)
{
    return open_chain(gate, top, cache, like, NULL, ret);
}

int qc_chain_reopen(QcGate *gate, QcImage *top, QcCache *cache, const QcChain *was, QcChain **ret)
{
    return open_chain(gate, top, cache, was, was, ret);
}

void qc_chain_free(QcChain *chain)
{
    if (!chain)
        return;
    for (unsigned i = 0; i < chain->n_layers; i++) {
        qc_view_unref(chain->layers[i].view);
        qc_image_unref(chain->layers[i].image);
    }
    g_free(chain->layers);
    qc_view_unref(chain->bottom);
    g_clear_error(&chain->error);
    g_free(chain);
}

const char *qc_chain_error(const QcChain *chain)
{
    return chain->error ? chain->error->message : NULL;
}

bool qc_chain_error_stands(const QcChain *chain, QcGate *gate)
{
    QcImage *lowest = lowest_image(chain);
    g_autofree char *path = NULL;
    g_autoptr(QcFile) file = NULL;
    QcFileStat now;
    if (qc_image_unsupported(lowest) || !lowest->info.backing_file ||
        chain->n_layers >= QC_MAX_LAYERS)
        return true; /* no other file has anything to do with it */
    if (!gate)
        return false;
    int err =
        qc_gate_open_backing(gate, lowest->path, lowest->info.backing_file, &path, &file, NULL);
    if (err < 0 || chain->open_error < 0)
        return err == chain->open_error;
    return qc_file_stat(file, &now) == 0 && qc_file_same_stat(&now, &chain->refused);
}

unsigned qc_chain_layers(const QcChain *chain)
{
    return chain->n_layers;
}

QcImage *qc_chain_image(const QcChain *chain, unsigned layer)
{
    return chain->layers[layer].image;
}

bool qc_chain_layer_is_same(const QcChain *chain, QcGate *gate, unsigned layer)
{
    const QcImage *image = chain->layers[layer].image;
    QcFileStat now;
    return qc_gate_stat(gate, image->path, &now) == 0 &&
           qc_file_same_stat(&now, &image->info.stat) && qc_image_has_same_header(image);
}

QcView *qc_chain_view(const QcChain *chain, unsigned layer)
{
    return chain->layers[layer].view;
}

int qc_chain_snapshot_view(QcChain *chain, unsigned snapshot, QcView **ret)
{
    QcImage *top = chain->layers[0].image;
    QcView *view;
    if (snapshot >= top->info.n_snapshots)
        return -ENOENT;
    if (qc_image_unsupported(top)) {
        /* Changes of the file are no matter: a snapshot's size does not change. */
        view = qc_view_new_broken(NULL, top->info.snapshots[snapshot].disk_size, -EOPNOTSUPP);
    } else {
        QcView *beneath = chain->n_layers > 1 ? chain->layers[1].view : chain->bottom;
        view = qc_view_new_snapshot(top, snapshot, beneath ? qc_view_ref(beneath) : NULL);
    }
    if (!view)
        return -ENOMEM;
    *ret = view;
    return 0;
}
