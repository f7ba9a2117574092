/*
 * reader.c - see reader.h.
 *
 * A reader holds an opened image and one view of it. What comes of a view is handed out only after
 * the engine has said that the view was right all the time: qc_view_check_reading() of what was
 * read, qc_view_check() of sizes and holes. When it says that the view is of the past, the reader
 * opens the same file anew, looks for the same thing in it (the disk; the layer; the snapshot by
 * id, date and L1 table) and tries again.
 *
 * "Live" readers (disk, layers/0) show a file that may be written: they bypass the kernel's page
 * cache, have opened the file for themselves, with QEMU's lock of a reader on it, and refuse to
 * read while another process writes. Snapshots and lower layers hold no lock. Nothing is opened, or
 * opened anew after a change, while another process writes to a file beneath it; nor read while one
 * writes to a device beneath it, whose stat does not tell of changes.
 *
 * A lower layer that is a raw file, and so the last, is read by the kernel itself where it can
 * (passthrough.h): what is written there is seen at once, as all writes go through this kernel.
 * `disk` and `layers/0` are not, as then the daemon would not see that a writer has come.
 *
 * Claims: while a reader is open it holds the part of the top file that it shows and the disk of
 * every file beneath, so that no command pulls them away. Commands that change something else, one
 * right after the other, can make every view one of the past: a reader that tried in vain has those
 * wait a moment that came in between, until it has read.
 *
 * Opening and reading are one module, as they share all of the Reader. Locks, in order: `reload`
 * serialises reloading, which does I/O; `lock` protects image and view. The rest is set before the
 * reader is shared.
 */
#include "reader.h"

#include "claimset.h"
#include "subject.h"
#include "watched.h"

#include <errno.h>

enum {
    MAX_RELOADS = 4,
    SECTOR = 512,
};

struct Reader {
    Fs *fs;
    Node *node;  /* a reference */
    bool opened; /* node_close() has to follow */
    bool live;
    QcFile *file;       /* live: the top file, with our lock, also after reloads; passed: that */
    GPtrArray *watched; /* of Watched: live, the top file; and devices beneath */
    Subject subject;    /* what it shows */
    ClaimSet *claims;
    Pages *pages; /* of the node; borrowed */
    PagesUse use;
    int passed;   /* the kernel's number of a file that it reads by itself; 0: none */
    Ahead *ahead; /* NULL: what was read of this file is not worth keeping */
    gint settled; /* atomic: a read came through the page cache */

    GMutex reload;
    GMutex lock;
    Image *image; /* lock */
    QcView *view; /* lock */
};

static QcFile *file_of(const Image *image, unsigned layer)
{
    return qc_image_file(qc_chain_image(image_chain(image), layer));
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Open the image with a file of its own and a reader's lock. -EBUSY: a process writes to it. */
static int open_live(Fs *fs, const char *path, Image **ret)
{
    g_auto(StoreItem) item = {0};
    int r = store_look(fs->gate, path, &item);

    if (r < 0)
        return r;
    if (item.kind != STORE_IMAGE)
        return -ENOENT;
    if (!item.file)
        return item.error ? -item.error->code : -EIO;
    r = qc_lock_reader(item.file, NULL);
    if (r < 0)
        return r;
    r = fs_has_foreign_writer(fs, item.file, &item.stat);
    if (r != 0)
        return r < 0 ? r : -EBUSY;
    qc_file_settle(item.file, NULL);
    return images_open(fs->images, path, &item, ret);
}

/* The first layer whose writers matter: that of the top file does not disturb snapshots. */
static unsigned first_disturbed(const Reader *reader)
{
    return (unsigned)(reader->live ? 0 : MAX(reader->subject.layer, 1));
}

/* Of any other file, its stat tells that somebody writes to it. */
static void watch(Reader *reader)
{
    const Image *image = reader->image;

    for (unsigned i = first_disturbed(reader); i < image_n_layers(image); i++) {
        const QcFileStat *stat = &image_layer_info(image, i)->stat;
        bool locked = reader->live && i == 0;

        if (locked || stat->rdev)
            g_ptr_array_add(reader->watched, watched_new(file_of(image, i), stat, locked));
    }
}

/*
 * -EBUSY: another process writes to a file that the view rests on. To be asked after the image was
 * opened and before anything is read through it: a write that was under way at the opening may be
 * one that the file's stat told of already.
 * max_age: of what is known of the other nodes of a block device.
 */
static int check_writers(const Reader *reader, const Image *image, unsigned max_age)
{
    int r = 0;

    for (unsigned i = first_disturbed(reader); i < image_n_layers(image) && r == 0; i++) {
        const QcFileStat *stat = &image_layer_info(image, i)->stat;

        r = watched_ask(reader->fs, file_of(image, i), stat, reader->live && i == 0, max_age);
    }
    return r;
}

/* A snapshot rests on the disks beneath its own image; a layer, on its own as well. */
static int claim_all(Reader *reader)
{
    const Subject *subject = &reader->subject;
    const Image *image = reader->image;
    unsigned i = subject_is_snapshot(subject) ? 1 : (unsigned)subject->layer;
    int r = 0;

    if (subject_is_snapshot(subject)) {
        g_autofree char *part = subject_part_of_snapshot(&subject->snapshot);

        r = claimset_hold(reader->claims, image_stat(image), part);
    }
    for (; i < image_n_layers(image) && r == 0; i++)
        r = claimset_hold(reader->claims, &image_layer_info(image, i)->stat, CLAIMS_DISK);
    return r;
}

/* Whether what is opened is the raw file that the node is of, to its last byte. */
static bool is_node_file(const Reader *reader)
{
    const Image *image = reader->image;
    unsigned layer = subject_top_layer(&reader->subject);

    if (layer == 0 || image_layer_info(image, layer)->stat.size != qc_view_size(reader->view))
        return false;

    NodeFile file = image_layer_file(image, layer);
    return file.ino && node_file_equal(file, node_file(reader->node));
}

/* The kernel's number of the file, where it can read that by itself; or 0. -ESTALE. */
static int begin_passthrough(const Reader *reader)
{
    unsigned top = subject_top_layer(&reader->subject);
    const QcImage *layer = qc_chain_image(image_chain(reader->image), top);

    if (!qc_file_is_local(qc_image_file(layer)))
        return 0;
    return fs_begin_passthrough(reader->fs, qc_image_path(layer), &qc_image_info(layer)->stat);
}

/* Decide how the kernel is to read a file that is not live. -ESTALE: it has to look up the name. */
static int open_pages(Reader *reader)
{
    const Subject *subject = &reader->subject;
    g_autofree char *what = subject_what(subject, reader->image);
    g_autofree char *identity = subject_identity(subject, reader->image, reader->fs->gate);
    const PagesContent content = {
        .what = what,
        .identity = identity,
        .size = qc_view_size(reader->view),
        .is_node_file = is_node_file(reader),
    };
    int number = 0;

    if (content.is_node_file && pages_are_unused(reader->pages))
        number = begin_passthrough(reader);
    if (number < 0)
        return number;
    int passed = number;
    reader->use = pages_open(reader->pages, &content, &passed);
    if (reader->use == PAGES_PASSED) {
        reader->passed = passed;
        reader->file = qc_file_ref(file_of(reader->image, subject_top_layer(subject)));
    }
    if (number && reader->passed != number)
        fs_end_passthrough(reader->fs, number);
    if (reader->use != PAGES_STALE)
        return 0;
    node_leave_others(reader->fs->nodes, reader->node, &content);
    return -ESTALE;
}

static bool uses_pages(const Reader *reader)
{
    return reader->use == PAGES_NEW || reader->use == PAGES_KEEP;
}

static void close_pages(Reader *reader)
{
    int number = pages_close(reader->pages, reader->use);

    if (number)
        fs_end_passthrough(reader->fs, number);
}

static bool is_live_node(const Node *node)
{
    return node_kind(node) == NODE_DISK ||
           (node_kind(node) == NODE_LAYER && g_str_has_prefix(node_name(node), "0-"));
}

/* What this machine remembers of a block device may be older than what another one wrote to it. */
static void refresh(const Image *image)
{
    for (unsigned i = 0; i < image_n_layers(image); i++)
        qc_file_refresh(file_of(image, i), 0, 0);
}

static int get_image(Reader *reader, const Node *node, Image **ret)
{
    g_autofree char *path = node_path(node);
    int r = reader->live ? open_live(reader->fs, path, ret)
                         : images_get(reader->fs->images, path, IMAGE_ALL_LAYERS, ret);

    if (r == 0)
        refresh(*ret);
    return r;
}

/*
 * Whether a view may be taken from the image opened anew. It has to rest on the very same files:
 * for them the caller's rights were checked, and claims made.
 */
static bool has_same_files(const Image *was, const Image *now)
{
    unsigned n = image_n_layers(now);

    if (n != image_n_layers(was))
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!qc_file_same_file(&image_layer_info(was, i)->stat, &image_layer_info(now, i)->stat))
            return false;
    return true;
}

/*
 * What is claimed cannot be taken away; but a command may have taken it away after the image was
 * looked at and before the claim. So look once more.
 */
static int look_again(Reader *reader)
{
    g_autoptr(Image) image = NULL;
    g_autoptr(QcView) view = NULL;
    int r = get_image(reader, reader->node, &image);

    if (r < 0 || image == reader->image)
        return r;
    if (!has_same_files(reader->image, image))
        return 0; /* another file by that name: what was found is not less true for it */
    if (subject_view(&reader->subject, image, &view) < 0)
        return -ENOENT;
    qc_view_unref(reader->view);
    image_unref(reader->image);
    reader->view = g_steal_pointer(&view);
    reader->image = g_steal_pointer(&image);
    return 0;
}

/*
 * A layer's file is likely to be read again, as a part of other images; the image's own, of a
 * snapshot, is not, as the kernel keeps what it is given of that.
 */
static unsigned ahead_reader(const Reader *reader)
{
    if (!uses_pages(reader))
        return reader->use == PAGES_DIRECT ? AHEAD_WAITS : 0;
    return subject_is_snapshot(&reader->subject) ? AHEAD_PASSES : 0;
}

/* Fill in a reader. What it holds by then is freed with it, also on failure. */
static int set_up(Reader *reader, const Creds *creds)
{
    int r = get_image(reader, reader->node, &reader->image);

    if (r == 0)
        r = subject_choose(&reader->subject, reader->image, reader->node);
    if (r == 0)
        r = image_readable(reader->image);
    if (r == 0)
        r = subject_check_access(&reader->subject, reader->image, reader->fs->gate, creds);
    if (r == 0)
        r = check_writers(reader, reader->image, 0);
    if (r == 0)
        r = claim_all(reader);
    if (r == 0)
        r = subject_view(&reader->subject, reader->image, &reader->view);
    if (r == 0 && subject_is_snapshot(&reader->subject))
        r = look_again(reader);
    if (r == 0 && !reader->live)
        r = open_pages(reader);
    if (r < 0)
        return r;

    if (qc_view_is_telling(reader->view))
        reader->ahead = ahead_new(reader->fs->ahead, ahead_reader(reader));
    if (reader->live)
        reader->file = qc_file_ref(image_file(reader->image));
    watch(reader);
    node_open(reader->fs->nodes, reader->node, qc_view_size(reader->view));
    reader->opened = true;
    return 0;
}

int reader_open(Fs *fs, Node *node, const Creds *creds, Reader **ret)
{
    g_autoptr(Reader) reader = g_new0(Reader, 1);
    g_autofree char *path = node_path(node);

    reader->fs = fs;
    reader->node = nodes_get(fs->nodes, node_ino(node));
    reader->live = is_live_node(node);
    reader->claims = claimset_new(fs->claims, path);
    reader->watched = g_ptr_array_new_with_free_func((GDestroyNotify)watched_free);
    reader->pages = node_pages(fs->nodes, reader->node);
    reader->use = PAGES_DIRECT;
    g_mutex_init(&reader->reload);
    g_mutex_init(&reader->lock);

    int r = set_up(reader, creds);
    if (r == 0)
        *ret = g_steal_pointer(&reader);
    return r;
}

void reader_free(Reader *reader)
{
    if (!reader)
        return;
    if (reader->opened)
        node_close(reader->fs->nodes, reader->node);
    if (reader->opened && !reader->live)
        close_pages(reader);
    claimset_free(reader->claims);
    ahead_free(reader->ahead);
    qc_view_unref(reader->view);
    image_unref(reader->image);
    qc_file_unref(reader->file);
    g_ptr_array_unref(reader->watched);
    node_unref(reader->fs->nodes, reader->node);
    g_mutex_clear(&reader->lock);
    g_mutex_clear(&reader->reload);
    subject_clear(&reader->subject);
    g_free(reader);
}

PagesUse reader_pages(const Reader *reader)
{
    return reader->use;
}

int reader_passed(const Reader *reader)
{
    return reader->passed;
}

/* ---- reading ----------------------------------------------------------------------------- */

static QcView *current_view(Reader *reader)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&reader->lock);

    return qc_view_ref(reader->view);
}

/* Replace a view that is of the past, unless another thread just did. */
static int reload(Reader *reader, const QcView *stale)
{
    g_autoptr(GMutexLocker) reloading G_GNUC_UNUSED = g_mutex_locker_new(&reader->reload);
    g_autoptr(QcView) now = current_view(reader);

    if (now != stale)
        return 0;

    /* Only reload() replaces reader->image, so it can be used without the lock here. */
    g_autoptr(Image) image = NULL;
    g_autoptr(QcView) view = NULL;
    /* Else the file would be waited for in vain. */
    int r = check_writers(reader, reader->image, FS_RECENT_MS);
    if (r == 0)
        r = images_reopen(reader->fs->images, reader->image, &image);
    if (r == 0)
        r = check_writers(reader, image, FS_RECENT_MS);
    if (r == 0)
        r = has_same_files(reader->image, image) ? subject_view(&reader->subject, image, &view)
                                                 : -EIO;
    if (r == 0 && uses_pages(reader) && qc_view_size(view) != qc_view_size(stale))
        r = -EIO; /* the kernel ends reads where it ended before, or fills them up with zeros */
    if (r < 0)
        return r;

    if (uses_pages(reader))
        pages_spoil(reader->pages);
    g_mutex_lock(&reader->lock);
    QcView *old_view = reader->view;
    Image *old_image = reader->image;
    reader->view = g_steal_pointer(&view);
    reader->image = g_steal_pointer(&image);
    g_mutex_unlock(&reader->lock);
    qc_view_unref(old_view);
    image_unref(old_image);
    return 0;
}

/*
 * Whether what was read through the view may be handed out: 0, -ESTALE to try again, -EBUSY or why
 * that cannot be told. reading: what came of that; NULL: anything.
 */
static int check(Reader *reader, QcView *view, const QcReading *reading)
{
    int r = 0;

    for (guint i = 0; i < reader->watched->len && r == 0; i++)
        r = watched_check(reader->watched->pdata[i], reader->fs);
    if (r < 0)
        return r;
    return reading ? qc_view_check_reading(view, reading) : qc_view_check(view);
}

/* Something to be done with a view, until it was done with one that was right. */
typedef struct ViewAction {
    int64_t (*func)(Reader *reader, QcView *view, struct ViewAction *action);
    size_t len;
    uint64_t offset;
    bool hole;    /* seek */
    Bytes *bytes; /* read */
    const QcReading *reading;
} ViewAction;

/*
 * -ESTALE: each time, the view was one of the past. A view that is right may give -EIO, as the file
 * was changed and has lost bytes of it: a view of the file as it is now may have them; that is
 * tried once.
 */
static int64_t try_views(Reader *reader, ViewAction *action)
{
    bool hoping = true;

    for (int tries = 0; tries < MAX_RELOADS; tries++) {
        g_autoptr(QcView) view = current_view(reader);
        int64_t result = action->func(reader, view, action);
        int r = check(reader, view, result < 0 ? NULL : action->reading);

        if (r == 0 && result == -EIO && hoping && !qc_view_is_unchanged(view)) {
            hoping = false;
            r = -ESTALE;
        }
        if (r == 0)
            return result;
        if (r == -ESTALE)
            r = reload(reader, view);
        if (r < 0)
            return r;
    }
    return -ESTALE;
}

static int64_t with_view(Reader *reader, ViewAction *action)
{
    gint64 since = g_get_monotonic_time();
    int64_t result = try_views(reader, action);

    if (result == -ESTALE) {
        GPtrArray *paused = claimset_pause(reader->claims, since);

        result = try_views(reader, action);
        claimset_resume(reader->claims, paused);
    }
    return result == -ESTALE ? -EIO : result;
}

static int64_t do_read(Reader *reader, QcView *view, ViewAction *action)
{
    return bytes_read(action->bytes, reader->fs, reader->ahead, view, action->len, action->offset);
}

/*
 * The length of a shorter read, as bad places begin with a sector: of about half, at least to the
 * end of the first sector. 0: there is none.
 */
static size_t shorter(const ViewAction *action)
{
    uint64_t half = (action->offset + action->len / 2) / SECTOR * SECTOR;
    uint64_t end = MAX(half, (action->offset / SECTOR + 1) * SECTOR);

    return end < action->offset + action->len ? (size_t)(end - action->offset) : 0;
}

int reader_read(Reader *reader, size_t len, uint64_t offset, bool whole, Bytes *ret)
{
    ViewAction action = {
        .func = do_read, .len = len, .offset = offset, .bytes = ret, .reading = &ret->reading};
    int64_t n = with_view(reader, &action);

    /* Give what lies before the bad place. */
    while (n == -EIO && !whole && shorter(&action) > 0) {
        action.len = shorter(&action);
        n = with_view(reader, &action);
    }
    if (uses_pages(reader) && g_atomic_int_compare_and_exchange(&reader->settled, 0, 1))
        pages_settled(reader->pages);
    if (n < 0)
        bytes_clear(ret, reader->fs);
    return (int)MIN(n, 0);
}

static int64_t do_seek(Reader *reader, QcView *view, ViewAction *action)
{
    (void)reader;
    return qc_view_seek(view, action->offset, action->hole);
}

int64_t reader_seek(Reader *reader, uint64_t offset, bool hole)
{
    ViewAction action = {.func = do_seek, .offset = offset, .hole = hole};

    if (reader->passed) /* as the file is now, like what is read */
        return qc_file_seek(reader->file, offset, hole);
    return with_view(reader, &action);
}

static int64_t do_size(Reader *reader, QcView *view, ViewAction *action)
{
    (void)reader;
    (void)action;
    return (int64_t)qc_view_size(view);
}

uint64_t reader_size(Reader *reader)
{
    ViewAction action = {.func = do_size};
    QcFileStat stat;

    if (reader->passed && qc_file_stat(reader->file, &stat) == 0)
        return stat.size;
    if (!uses_pages(reader)) /* else it cannot change */
        with_view(reader, &action);

    g_autoptr(QcView) view = current_view(reader);
    return qc_view_size(view);
}
