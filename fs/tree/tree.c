/* tree.c - see tree.h. */
#include "tree.h"

#include "info.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum {
    BLOCK_SIZE = 128 * 1024, /* what programs are told to read at a time */
    STAT_BLOCK = 512,        /* what st_blocks counts */
    ENTRY_BYTES = 600,       /* what an entry of a listing takes, with the longest name */
};

/* ---- attributes -------------------------------------------------------------------------- */

static struct timespec timespec_of(int64_t ns)
{
    int64_t second = ns / QC_NS_PER_SECOND, rest = ns % QC_NS_PER_SECOND;

    if (rest < 0) {
        rest += QC_NS_PER_SECOND;
        second--;
    }
    return (struct timespec){.tv_sec = second, .tv_nsec = rest};
}

static void set_common(struct stat *attr, const QcFileStat *file, mode_t mode)
{
    memset(attr, 0, sizeof(*attr));
    attr->st_mode = mode;
    attr->st_nlink = 1; /* of a directory: not known. 2 says that there are none in it */
    attr->st_uid = file->uid;
    attr->st_gid = file->gid;
    attr->st_mtim = attr->st_atim = timespec_of(file->mtime);
    attr->st_ctim = timespec_of(file->ctime);
    attr->st_blksize = BLOCK_SIZE;
}

/* A directory of the store: as it is there, but not to be written to. */
static void set_store_dir(struct stat *attr, const QcFileStat *dir)
{
    set_common(attr, dir, S_IFDIR | (dir->mode & 0555));
}

/* A directory of an image: users who may read the image may look into it. */
static void set_image_dir(struct stat *attr, const QcFileStat *file, NodeKind kind)
{
    mode_t readable = file->mode & 0444, passable = readable >> 2;

    if (kind == NODE_IMAGE) /* and users who may write it get to its control file */
        passable |= (file->mode & 0222) >> 1;
    set_common(attr, file, S_IFDIR | readable | passable);
}

static void set_control(struct stat *attr, const QcFileStat *file)
{
    set_common(attr, file, S_IFREG | (file->mode & 0666));
}

/* Every user may try: a command is refused to users who may not write the image that it names. */
static void set_store_control(struct stat *attr, const QcFileStat *dir)
{
    set_common(attr, dir, S_IFREG | (dir->mode & 0444) | 0222);
}

static void set_text(struct stat *attr, const QcFileStat *file, size_t len)
{
    set_common(attr, file, S_IFREG | (file->mode & 0444));
    attr->st_size = (off_t)len;
    attr->st_blocks = (blkcnt_t)(len / STAT_BLOCK + 1);
}

/*
 * A disk. Its blocks are those of the image file, but fewer than its size has, so that cp and
 * tar ask for the holes; and never 0, which tar takes for "only holes".
 */
static void set_view(struct stat *attr, const QcFileStat *file, uint64_t size)
{
    uint64_t blocks = MIN(file->allocated / STAT_BLOCK, size ? (size - 1) / STAT_BLOCK : 0);

    set_common(attr, file, S_IFREG | (file->mode & 0444));
    attr->st_size = (off_t)size;
    attr->st_blocks = (blkcnt_t)MAX(blocks, size ? 1 : 0);
}

/* ---- the parts of an image --------------------------------------------------------------- */

static int snapshot_attr(Image *image, const char *name, struct stat *attr)
{
    const Names *names = image_names(image);
    unsigned index;
    int r = names ? names_find(names, name, &index) : -ENOMEM;

    if (r < 0)
        return r;

    const QcSnapshot *snapshot = image_snapshot(image, index);
    set_view(attr, image_stat(image), snapshot->disk_size);
    attr->st_mtim = (struct timespec){snapshot->date_sec, snapshot->date_nsec};
    attr->st_ctim = attr->st_atim = attr->st_mtim;
    return 0;
}

static int layer_attr(Image *image, const char *name, NodeFile *ret_file, struct stat *attr)
{
    unsigned layer;

    if (!image_find_layer(image, name, &layer))
        return -ENOENT;
    QcFileStat stat = image_layer_stat(image, layer);
    *ret_file = image_layer_file(image, layer);
    set_view(attr, &stat, qc_view_size(qc_chain_view(image_chain(image), layer)));
    return 0;
}

static int disk_attr(Image *image, struct stat *attr)
{
    if (image_error(image))
        return -ENOENT;
    set_view(attr, image_stat(image), qc_view_size(qc_chain_view(image_chain(image), 0)));
    return 0;
}

static int error_attr(Image *image, struct stat *attr)
{
    if (!image_error(image))
        return -ENOENT;
    set_text(attr, image_stat(image), strlen(image_error(image)) + 1);
    return 0;
}

static int info_attr(Fs *fs, Image *image, struct stat *attr)
{
    g_autoptr(GBytes) text = info_text(fs, image);

    if (!text)
        return -ENOMEM;
    set_text(attr, image_stat(image), g_bytes_get_size(text));
    return 0;
}

/* How many layers of the image the attributes of a part rest on. */
static unsigned layers_needed(NodeKind kind, const char *name)
{
    if (kind == NODE_SNAPSHOT)
        return 1;
    if (kind == NODE_LAYER)
        return (unsigned)MIN(g_ascii_strtoull(name, NULL, 10), QC_MAX_LAYERS) + 1;
    return IMAGE_ALL_LAYERS;
}

/* Attributes of something that needs the image's metadata. */
static int part_attr(Fs *fs, const char *path, NodeKind kind, const char *name, NodeFile *ret_file,
                     struct stat *attr)
{
    g_autoptr(Image) image = NULL;
    int r = images_get(fs->images, path, layers_needed(kind, name), &image);

    if (r < 0)
        return r;
    switch (kind) {
    case NODE_SNAPSHOT:
        return snapshot_attr(image, name, attr);
    case NODE_LAYER:
        return layer_attr(image, name, ret_file, attr);
    case NODE_DISK:
        return disk_attr(image, attr);
    case NODE_ERROR:
        return error_attr(image, attr);
    case NODE_INFO:
        return info_attr(fs, image, attr);
    default:
        return -ENOENT;
    }
}

/* ---- look-up ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    NodeKind kind;
} parts[] = {
    {"control", NODE_CONTROL}, {"info.json", NODE_INFO}, {"disk", NODE_DISK},
    {"error", NODE_ERROR},     {"layers", NODE_LAYERS},  {"snapshots", NODE_SNAPSHOTS},
};

/* What is at a path of the store, and its stat. */
static int look(Fs *fs, const char *path, StoreKind *ret_kind, QcFileStat *ret)
{
    g_auto(StoreItem) item = {0};
    int r;

    *ret_kind = STORE_IMAGE;
    if (images_stat(fs->images, path, ret))
        return 0;
    r = store_look(fs->gate, path, &item);
    if (r < 0)
        return r;
    *ret_kind = item.kind;
    *ret = item.stat;
    return 0;
}

/* Attributes of the kinds for which the file's stat is enough. */
static int outer_attr(Fs *fs, const char *path, NodeKind kind, bool of_store, struct stat *attr)
{
    StoreKind found, wanted = kind == NODE_DIR || of_store ? STORE_DIR : STORE_IMAGE;
    QcFileStat stat;
    int r = look(fs, path, &found, &stat);

    if (r < 0)
        return r;
    if (found != wanted)
        return -ENOENT;
    if (kind == NODE_CONTROL && of_store)
        set_store_control(attr, &stat);
    else if (kind == NODE_CONTROL)
        set_control(attr, &stat);
    else if (kind == NODE_DIR)
        set_store_dir(attr, &stat);
    else
        set_image_dir(attr, &stat, kind);
    return 0;
}

static int attr_of(Fs *fs, const char *path, NodeKind kind, bool of_store, const char *name,
                   NodeFile *ret_file, struct stat *attr)
{
    *ret_file = (NodeFile){0};
    switch (kind) {
    case NODE_DIR:
    case NODE_IMAGE:
    case NODE_CONTROL:
    case NODE_SNAPSHOTS:
    case NODE_LAYERS:
        return outer_attr(fs, path, kind, of_store, attr);
    default:
        return part_attr(fs, path, kind, name, ret_file, attr);
    }
}

int tree_attr(Fs *fs, const Node *node, struct stat *attr)
{
    g_autofree char *path = node_path(node);
    NodeFile file;
    int r =
        attr_of(fs, path, node_kind(node), node_is_of_store(node), node_name(node), &file, attr);

    return r == 0 && !node_file_equal(file, node_file(node)) ? -ESTALE : r;
}

/* A name in a directory of the store. */
static int lookup_in_store(Fs *fs, const char *dir, const char *name, NodeKind *ret_kind,
                           struct stat *attr)
{
    g_autofree char *path = store_join(dir, name);
    StoreKind found;
    QcFileStat stat;
    int r;

    if (store_is_hidden(path)) {
        *ret_kind = NODE_CONTROL;
        return outer_attr(fs, dir, NODE_CONTROL, true, attr);
    }
    r = look(fs, path, &found, &stat);
    if (r < 0)
        return r;
    if (found == STORE_DIR) {
        *ret_kind = NODE_DIR;
        set_store_dir(attr, &stat);
    } else {
        *ret_kind = NODE_IMAGE;
        set_image_dir(attr, &stat, NODE_IMAGE);
    }
    return 0;
}

static int find_part(const char *name, NodeKind *ret_kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (strcmp(parts[i].name, name) == 0) {
            *ret_kind = parts[i].kind;
            return 0;
        }
    }
    return -ENOENT;
}

int tree_lookup(Fs *fs, const Node *parent, const char *name, NodeKind *ret_kind,
                NodeFile *ret_file, struct stat *attr)
{
    g_autofree char *path = node_path(parent);
    int r = 0;

    *ret_file = (NodeFile){0};

    switch (node_kind(parent)) {
    case NODE_DIR:
        return lookup_in_store(fs, path, name, ret_kind, attr);
    case NODE_IMAGE:
        r = find_part(name, ret_kind);
        break;
    case NODE_SNAPSHOTS:
        *ret_kind = NODE_SNAPSHOT;
        break;
    case NODE_LAYERS:
        *ret_kind = NODE_LAYER;
        break;
    default:
        return -ENOTDIR;
    }
    if (strlen(name) > NAMES_MAX)
        return -ENAMETOOLONG;
    return r < 0 ? r : attr_of(fs, path, *ret_kind, false, name, ret_file, attr);
}

/* ---- listing ----------------------------------------------------------------------------- */

static const NodeFile none;

static void add(Listing *listing, const Node *parent, const char *name, NodeKind kind,
                NodeFile file)
{
    const ListingEntry entry = {
        .name = name,
        .ino = node_child_ino(parent, name, kind, file),
        .is_dir =
            kind == NODE_DIR || kind == NODE_IMAGE || kind == NODE_SNAPSHOTS || kind == NODE_LAYERS,
    };

    listing_add(listing, &entry);
}

/* Whether the kernel has no path of a directory, from the root on: not all users could list it. */
static bool is_too_deep(const Fs *fs, const char *path)
{
    return strlen(qc_gate_store(fs->gate)) + 1 + strlen(path) >= PATH_MAX;
}

/*
 * Add a name, unless the tree does not show it, or cannot as its path is too long. -errno: of a
 * shortage. If the storage fails, the name is shown, and its look-up says so: what is not listed
 * would be taken for removed.
 */
static int add_from_store(Fs *fs, const Node *node, const char *path, const StoreName *name,
                          Listing *listing)
{
    g_auto(StoreItem) item = {.kind = STORE_DIR};
    g_autofree char *child = store_join(path, name->name);
    int r = !name->is_dir            ? store_look(fs->gate, child, &item)
            : is_too_deep(fs, child) ? -ENAMETOOLONG
                                     : 0;

    if (qc_is_shortage(r))
        return r;
    if (r != -ENOENT && r != -EACCES && r != -ENAMETOOLONG)
        add(listing, node, name->name, item.kind == STORE_DIR ? NODE_DIR : NODE_IMAGE, none);
    return 0;
}

static int list_store(Fs *fs, const Node *node, const Creds *creds, const char *path,
                      Listing *listing)
{
    g_autoptr(GPtrArray) names = NULL;
    int r = store_list(fs->gate, creds, path, &names);

    if (r < 0)
        return r;
    if (!*path)
        add(listing, node, "control", NODE_CONTROL, none);
    for (guint i = 0; r == 0 && i < names->len; i++) {
        const StoreName *name = names->pdata[i];

        if (*path || strcmp(name->name, "control") != 0)
            r = add_from_store(fs, node, path, name, listing);
    }
    return r;
}

static void list_image(const Node *node, const Image *image, Listing *listing)
{
    NodeKind absent = image_error(image) ? NODE_DISK : NODE_ERROR;

    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (parts[i].kind != absent)
            add(listing, node, parts[i].name, parts[i].kind, none);
    }
}

static int list_snapshots(const Node *node, Image *image, Listing *listing)
{
    const Names *names = image_names(image);

    if (!names || !qc_room_for((uint64_t)names_count(names) * ENTRY_BYTES))
        return -ENOMEM;
    for (unsigned i = 0; i < names_count(names); i++)
        add(listing, node, names_shown(names, i), NODE_SNAPSHOT, none);
    return 0;
}

static void list_layers(const Node *node, const Image *image, Listing *listing)
{
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        g_autofree char *name = image_layer_name(image, i);

        add(listing, node, name, NODE_LAYER, image_layer_file(image, i));
    }
}

static int list_in_image(Fs *fs, const Node *node, const Creds *creds, const char *path,
                         Listing *listing)
{
    g_autoptr(Image) image = NULL;
    unsigned layers = node_kind(node) == NODE_SNAPSHOTS ? 1 : IMAGE_ALL_LAYERS;
    int r = images_get(fs->images, path, layers, &image);

    if (r == 0)
        r = image_check_access(image, fs->gate, creds);
    if (r < 0)
        return r;
    if (node_kind(node) == NODE_IMAGE)
        list_image(node, image, listing);
    else if (node_kind(node) == NODE_SNAPSHOTS)
        r = list_snapshots(node, image, listing);
    else
        list_layers(node, image, listing);
    return r;
}

int tree_list(Fs *fs, const Node *node, const Creds *creds, Listing **ret)
{
    g_autoptr(Listing) listing = listing_new();
    g_autofree char *path = node_path(node);
    int r;

    if (node_kind(node) == NODE_DIR)
        r = list_store(fs, node, creds, path, listing);
    else
        r = list_in_image(fs, node, creds, path, listing);
    if (r == 0)
        *ret = listings_share(fs->listings, g_steal_pointer(&listing));
    return r;
}
