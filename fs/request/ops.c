/*
 * ops.c - see ops.h.
 *
 * One function per kind of request; each answers exactly once, and holds no lock when it
 * does. Nothing may be cached by the kernel but the pages of snapshots and lower layers
 * (reader.h): names are right only at the moment of the answer, so their time-out is 0, and
 * so is the size of a file. Of directories below the root the kernel may use what it was told for
 * DIR_ATTR_SECONDS, for all that follows a look-up at once (may the caller pass? what is it?).
 */
#include "ops.h"

#include "answer.h"
#include "handle.h"
#include "passthrough.h"
#include "tree.h"
#include "tune.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    MAX_GROUPS = 65536, /* of a process, as Linux allows */
};

static const double DIR_ATTR_SECONDS = 0.004; /* the kernel makes up to two ticks of it */

static Fs *fs_of(fuse_req_t req)
{
    return *(Fs **)fuse_req_userdata(req);
}

static Handle *handle_of(const struct fuse_file_info *fi)
{
    return (Handle *)(uintptr_t)fi->fh;
}

static void reply_status(fuse_req_t req, int r)
{
    fuse_reply_err(req, -answer_error(r));
}

/* The user who asks, with supplementary groups. */
static Creds *creds_of(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    g_autofree gid_t *groups = NULL;
    int n = 0;

    if (ctx->uid != 0)
        n = fuse_req_getgroups(req, 0, NULL);
    if (n > 0 && n <= MAX_GROUPS) {
        groups = g_try_new0(gid_t, n);
        int found = groups ? fuse_req_getgroups(req, n, groups) : 0;
        n = MIN(n, found);
    }
    return creds_new(ctx->uid, ctx->gid, groups, groups && n > 0 ? (unsigned)n : 0);
}

/* ---- the session ------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    const unsigned unwanted = FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                              FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
                              FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_SPLICE_READ |
                              FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS;

    conn->max_read = (*(Fs **)userdata)->max_read; /* or libfuse refuses the option */
    conn->want = (conn->want & ~unwanted) | (conn->capable & wanted);
    conn->max_write = FS_MAX_REQUEST;
    conn->max_background = FS_MAX_BACKGROUND;
    conn->congestion_threshold = FS_MAX_BACKGROUND * 3 / 4;
}

/* ---- names and attributes ---------------------------------------------------------------- */

/*
 * Whether a thread of the daemon's asks: an image names a file of this very tree as its backing
 * file. The thread would wait for an answer that takes another thread, and so on, for ever.
 */
static bool is_from_ourselves(fuse_req_t req)
{
    pid_t pid = fuse_req_ctx(req)->pid;

    return tgkill(getpid(), pid, 0) == 0 || (fs_of(req)->keeper && pid == getppid());
}

/* For how long the kernel may use the attributes. The root is never looked up again. */
static double attr_seconds(fuse_ino_t ino, const struct stat *attr)
{
    return S_ISDIR(attr->st_mode) && ino != NODE_ROOT ? DIR_ATTR_SECONDS : 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    Fs *fs = fs_of(req);
    struct fuse_entry_param entry = {0};
    NodeKind kind;
    NodeFile file;
    Node *node = nodes_get(fs->nodes, parent);
    int r = is_from_ourselves(req) ? -EDEADLK
            : node                 ? tree_lookup(fs, node, name, &kind, &file, &entry.attr)
                                   : -ESTALE;

    if (r == 0) {
        entry.ino = entry.attr.st_ino =
            nodes_lookup(fs->nodes, node, name, kind, file, (uint64_t)entry.attr.st_size);
        entry.attr_timeout = attr_seconds(entry.ino, &entry.attr);
        if (fuse_reply_entry(req, &entry) == -ENOENT) /* interrupted: the kernel has no node */
            nodes_forget(fs->nodes, entry.ino, 1);
    } else {
        reply_status(req, r);
    }
    node_unref(fs->nodes, node);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    nodes_forget(fs_of(req)->nodes, ino, nlookup);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        nodes_forget(fs_of(req)->nodes, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/*
 * The attributes as of now; of an open file that has lost its name, as far as they are known. (For
 * fstat(2) the kernel does not say through which open file it asks. For the end of one, it does.)
 */
static int attr_now(Fs *fs, fuse_ino_t ino, struct stat *attr)
{
    Node *node = nodes_get(fs->nodes, ino);
    int r = node ? tree_attr(fs, node, attr) : -ESTALE;
    uint64_t size;

    if ((r == -ENOENT || r == -ESTALE) && node && node_is_open(fs->nodes, node, &size)) {
        memset(attr, 0, sizeof(*attr));
        attr->st_mode = S_IFREG | 0400;
        attr->st_size = (off_t)size;
        attr->st_blocks = size > 0; /* see set_view() in tree.c */
        r = 0;
    }
    if (r == 0 && node_pages_size(fs->nodes, node, &size))
        attr->st_size = (off_t)size; /* where the kernel ends reads from its pages */
    node_unref(fs->nodes, node);
    attr->st_ino = ino;
    return r;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat attr = {0};
    int r = attr_now(fs_of(req), ino, &attr);

    if (r == 0 && fi && handle_of(fi)->reader)
        attr.st_size = (off_t)reader_size(handle_of(fi)->reader);
    if (r < 0)
        reply_status(req, r);
    else
        fuse_reply_attr(req, &attr, attr_seconds(ino, &attr));
}

/* Only control files can be set, and only to a length: `> control` does that. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *set, int to_set,
                       struct fuse_file_info *fi)
{
    const int refused = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    Fs *fs = fs_of(req);
    struct stat attr = {0};
    Node *node = nodes_get(fs->nodes, ino);
    bool is_control = node && node_kind(node) == NODE_CONTROL;

    (void)set;
    (void)fi;
    node_unref(fs->nodes, node);
    if ((to_set & refused) || !(to_set & FUSE_SET_ATTR_SIZE)) {
        reply_status(req, -EPERM);
        return;
    }

    int r = is_control ? attr_now(fs, ino, &attr) : -EROFS;
    if (r < 0)
        reply_status(req, r);
    else
        fuse_reply_attr(req, &attr, 0);
}

/*
 * Nothing has extended attributes, which programs that copy them want to hear. There is no
 * operation to read one, so the kernel asks for one once and never again; otherwise it would with
 * each write(2), and with each file that ls(1) shows.
 */
static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    (void)ino;
    if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, NULL, 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;

    (void)ino;
    if (fstatvfs(qc_gate_dirfd(fs_of(req)->gate), &st) < 0)
        reply_status(req, -errno);
    else
        fuse_reply_statfs(req, &st);
}

/* ---- files ------------------------------------------------------------------------------- */

/* Answer with a handle, and free it where the kernel does not want it any more. */
static void reply_open(fuse_req_t req, struct fuse_file_info *fi, Handle *handle)
{
    int passed = handle->reader ? reader_passed(handle->reader) : 0;

    fi->fh = (uintptr_t)handle;
    int r = passed ? passthrough_reply(req, fi, passed) : fuse_reply_open(req, fi);
    if (r == -ENOENT)
        handle_free(handle);
}

static void set_caching(struct fuse_file_info *fi, const Handle *handle)
{
    PagesUse use = handle->reader ? reader_pages(handle->reader) : PAGES_DIRECT;

    fi->direct_io = use == PAGES_DIRECT || (use == PAGES_PASSED && (fi->flags & O_DIRECT));
    fi->keep_cache = use == PAGES_KEEP;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    Fs *fs = fs_of(req);
    g_autoptr(Creds) creds = creds_of(req);
    g_autoptr(Handle) handle = NULL;
    Node *node = nodes_get(fs->nodes, ino);
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);
    int r = node ? 0 : -ESTALE;

    tune_read_ahead(fs->read_ahead);
    if (r == 0 && writes && node_kind(node) != NODE_CONTROL)
        r = -EROFS;
    if (r == 0)
        r = handle_open(fs, node, creds, &handle);
    node_unref(fs->nodes, node);
    if (r < 0) {
        reply_status(req, r);
        return;
    }
    set_caching(fi, handle);
    reply_open(req, fi, g_steal_pointer(&handle));
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_free(handle_of(fi));
    reply_status(req, 0);
}

/* Holds the text until the reply is over: the handle may be released as soon as it is sent. */
static void reply_part(fuse_req_t req, GBytes *of, size_t len, uint64_t offset)
{
    g_autoptr(GBytes) text = g_bytes_ref(of);
    size_t size;
    const char *data = g_bytes_get_data(text, &size);

    if (offset >= size)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_buf(req, data + offset, MIN(len, size - offset));
}

/*
 * Whether a read is to fill pages of the kernel's: through the page cache; or, of a file that was
 * opened past it, for mmap(2), sendfile(2) or splice(2). Any other read has an owner.
 */
static bool fills_pages(const struct fuse_file_info *fi)
{
    return fi->lock_owner == 0;
}

static void read_disk(fuse_req_t req, const struct fuse_file_info *fi, size_t len, uint64_t offset)
{
    Reader *reader = handle_of(fi)->reader;
    Fs *fs = fs_of(req);
    Bytes bytes = {0};
    int r = reader_read(reader, MIN(len, FS_MAX_REQUEST), offset, fills_pages(fi), &bytes);

    if (r < 0)
        reply_status(req, r);
    else
        fuse_reply_iov(req, bytes.iov, (int)bytes.n_iov);
    bytes_clear(&bytes, fs);
}

/*
 * Whether a read is to fill a page that might be shown when it is not true any more. Of a file that
 * was opened past the page cache, mmap(2) reads pages nevertheless, and from Linux 6.5 on
 * sendfile(2) and splice(2) do. They would find the pages of earlier reads there, although the
 * image was written to since, and the daemon would not be asked. EINVAL has programs use read(2)
 * instead.
 */
static bool is_for_lasting_page(const Fs *fs, const struct fuse_file_info *fi)
{
    const Reader *reader = handle_of(fi)->reader;

    return fills_pages(fi) && fs->splices_pages &&
           (!reader || reader_pages(reader) == PAGES_DIRECT);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    Handle *handle = handle_of(fi);

    (void)ino;
    if (is_for_lasting_page(fs_of(req), fi)) {
        reply_status(req, -EINVAL);
    } else if (handle->reader) {
        read_disk(req, fi, size, (uint64_t)off);
    } else if (handle->control) {
        g_autoptr(GBytes) part = control_read(handle->control, size, (uint64_t)off);

        reply_part(req, part, size, 0);
    } else {
        reply_part(req, handle->text, size, (uint64_t)off);
    }
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    Handle *handle = handle_of(fi);

    (void)ino;
    (void)off;
    if (!handle->control)
        reply_status(req, -EBADF);
    else
        control_write(handle->control, req, buf, size, creds_of(req));
}

/* Text has no holes but the one at its end. */
static int64_t seek_text(const Handle *handle, uint64_t offset, bool hole)
{
    uint64_t size = handle->text ? g_bytes_get_size(handle->text) : 0;

    if (offset >= size)
        return -ENXIO;
    return (int64_t)(hole ? size : offset);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
                     struct fuse_file_info *fi)
{
    Handle *handle = handle_of(fi);
    bool hole = whence == SEEK_HOLE;
    int64_t found = -EINVAL;

    (void)ino;
    if (off >= 0 && (hole || whence == SEEK_DATA))
        found = handle->reader ? reader_seek(handle->reader, (uint64_t)off, hole)
                               : seek_text(handle, (uint64_t)off, hole);
    if (found < 0)
        reply_status(req, (int)found);
    else
        fuse_reply_lseek(req, found);
}

/* Commands are durable when their write returns. */
static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    (void)fi;
    reply_status(req, 0);
}

/* ---- directories ------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    Fs *fs = fs_of(req);
    g_autoptr(Creds) creds = creds_of(req);
    g_autoptr(Handle) handle = NULL;
    Node *node = nodes_get(fs->nodes, ino);
    int r = node ? handle_open_dir(fs, node, creds, &handle) : -ESTALE;

    node_unref(fs->nodes, node);
    if (r < 0)
        reply_status(req, r);
    else
        reply_open(req, fi, g_steal_pointer(&handle));
}

/* The entry at a place of the listing: ".", "..", then the others; false behind the last. */
static bool entry_at(const Listing *listing, uint64_t place, const char **ret_name,
                     struct stat *attr)
{
    ListingEntry entry;

    if (place < 2) {
        *ret_name = place == 0 ? "." : "..";
        attr->st_mode = S_IFDIR;
        attr->st_ino = NODE_ROOT; /* programs do not rely on it; 0 would hide the entry */
        return true;
    }
    if (!listing_get(listing, place - 2, &entry))
        return false;
    *ret_name = entry.name;
    attr->st_mode = entry.is_dir ? S_IFDIR : S_IFREG;
    attr->st_ino = entry.ino;
    return true;
}

static void reply_entries(fuse_req_t req, const Listing *listing, size_t size, uint64_t from)
{
    g_autofree char *buffer = g_try_malloc(size);
    size_t used = 0;
    struct stat attr = {0};
    const char *name;

    if (!buffer) {
        reply_status(req, -ENOMEM);
        return;
    }
    for (uint64_t place = from; entry_at(listing, place, &name, &attr); place++) {
        size_t need =
            fuse_add_direntry(req, buffer + used, size - used, name, &attr, (off_t)(place + 1));

        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, buffer, used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    Fs *fs = fs_of(req);
    g_autoptr(Listing) listing = NULL;
    Node *node = nodes_get(fs->nodes, ino);
    int r = node ? handle_listing(fs, node, handle_of(fi), (uint64_t)off, &listing) : -ESTALE;

    node_unref(fs->nodes, node);
    if (r < 0)
        reply_status(req, r);
    else
        reply_entries(req, listing, size, (uint64_t)off);
}

/* ---- what cannot be done ----------------------------------------------------------------- */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)parent, (void)name, (void)mode, (void)rdev;
    reply_status(req, -EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent, (void)name, (void)mode;
    reply_status(req, -EPERM);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    (void)parent, (void)name, (void)mode, (void)fi;
    reply_status(req, -EPERM);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    reply_status(req, -EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    (void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
    reply_status(req, -EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino, (void)parent, (void)name;
    reply_status(req, -EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target, (void)parent, (void)name;
    reply_status(req, -EPERM);
}

const struct fuse_lowlevel_ops ops_table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .listxattr = op_listxattr,
    .statfs = op_statfs,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
    .lseek = op_lseek,
    .fsync = op_fsync,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_release,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .create = op_create,
    .unlink = op_unlink,
    .rmdir = op_unlink,
    .rename = op_rename,
    .link = op_link,
    .symlink = op_symlink,
};
