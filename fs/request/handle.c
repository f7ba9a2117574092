/* handle.c - see handle.h. */
#include "handle.h"

#include "info.h"
#include "tree.h"

#include <errno.h>
#include <string.h>

static int open_text(Fs *fs, const char *path, NodeKind kind, const Creds *creds, Handle *handle)
{
    g_autoptr(Image) image = NULL;
    int r = images_get(fs->images, path, IMAGE_ALL_LAYERS, &image);

    if (r == 0)
        r = image_check_access(image, fs->gate, creds);
    if (r < 0)
        return r;
    if (kind == NODE_INFO) {
        handle->text = info_text(fs, image);
        return handle->text ? 0 : -ENOMEM;
    }
    if (!image_error(image))
        return -ENOENT;

    char *line = g_strdup_printf("%s\n", image_error(image));
    handle->text = g_bytes_new_take(line, strlen(line));
    return 0;
}

static Handle *handle_new(void)
{
    Handle *handle = g_new0(Handle, 1);

    g_mutex_init(&handle->lock);
    return handle;
}

/* fstat(2) has an answer as long as the file is open, also once its image is gone. */
static void keep_open(Fs *fs, Node *node, Handle *handle)
{
    handle->fs = fs;
    handle->node = nodes_get(fs->nodes, node_ino(node));
    node_open(fs->nodes, handle->node, handle->text ? g_bytes_get_size(handle->text) : 0);
}

int handle_open(Fs *fs, Node *node, const Creds *creds, Handle **ret)
{
    g_autoptr(Handle) handle = handle_new();
    g_autofree char *path = node_path(node);
    int r = 0;

    switch (node_kind(node)) {
    case NODE_CONTROL:
        handle->control = control_open(fs, path, creds);
        break;
    case NODE_INFO:
    case NODE_ERROR:
        r = open_text(fs, path, node_kind(node), creds, handle);
        break;
    case NODE_DISK:
    case NODE_SNAPSHOT:
    case NODE_LAYER:
        r = reader_open(fs, node, creds, &handle->reader);
        break;
    default:
        r = -EISDIR;
    }
    if (r == 0 && !handle->reader)
        keep_open(fs, node, handle);
    if (r == 0)
        *ret = g_steal_pointer(&handle);
    return r;
}

int handle_open_dir(Fs *fs, const Node *node, const Creds *creds, Handle **ret)
{
    g_autoptr(Handle) handle = handle_new();
    int r = tree_list(fs, node, creds, &handle->listing);

    handle->opener = creds_copy(creds);
    if (r == 0)
        *ret = g_steal_pointer(&handle);
    return r;
}

/* The listing that is there; NULL: it was read, and is to be read from its start again. */
static Listing *listing_at(Handle *handle, uint64_t place)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&handle->lock);

    if (place == 0 && handle->listed)
        return NULL;
    handle->listed = true;
    return listing_ref(handle->listing);
}

int handle_listing(Fs *fs, const Node *node, Handle *handle, uint64_t place, Listing **ret)
{
    g_autoptr(Listing) anew = NULL;
    int r;

    if ((*ret = listing_at(handle, place)))
        return 0;
    r = tree_list(fs, node, handle->opener, &anew);
    if (r < 0)
        return r;
    *ret = listing_ref(anew);
    g_mutex_lock(&handle->lock);
    Listing *old = handle->listing;
    handle->listing = g_steal_pointer(&anew);
    g_mutex_unlock(&handle->lock);
    listing_unref(old);
    return 0;
}

void handle_free(Handle *handle)
{
    if (!handle)
        return;
    if (handle->node) {
        node_close(handle->fs->nodes, handle->node);
        node_unref(handle->fs->nodes, handle->node);
    }
    reader_free(handle->reader);
    control_unref(handle->control);
    g_clear_pointer(&handle->text, g_bytes_unref);
    listing_unref(handle->listing);
    creds_free(handle->opener);
    g_mutex_clear(&handle->lock);
    g_free(handle);
}
