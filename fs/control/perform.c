/*
 * perform.c - see perform.h.
 *
 * A command is done in steps; each undoes what it did when a later one fails:
 *
 *   look       what is at the path; may the caller write it
 *   begin      claim the file inside this daemon (claims.h)
 *   open       the same file for writing, QEMU's writer lock, then the metadata; of a block device,
 *              no process may use another node of it
 *   resolve    the snapshot's name (naming.h); claim the part that will change
 *   act        the engine's operation: atomic and durable
 *
 * The lock is taken before the metadata is read, so nothing changes in between. A lock does not
 * keep a process from another node of a device: so it is asked about once more before anything is
 * written, and right before the change is made.
 */
#include "perform.h"

#include "memory.h"
#include "naming.h"
#include "subject.h"

#include <errno.h>
#include <string.h>

void said_clear(Said *said)
{
    g_clear_pointer(&said->note, g_free);
    g_clear_pointer(&said->to_others, g_free);
}

/* A command on a file that is claimed. */
typedef struct Work {
    Fs *fs;
    const char *path;
    const Creds *creds;
    const Command *command;
    const QcFileStat *file;
    Target *target;
    Said *said;
    QcRun *run;
    GError *refused; /* by last_look() */
    bool opened;     /* the image's metadata could be read */
} Work;

enum {
    PERFORM_CACHE_BYTES = 8 * 1024 * 1024, /* for tables, while the command runs */
    READERS_SHOWN = 4,
};

/* Returns r, -errno; the message is for people. */
static int fail(GError **error, int r, const char *format, ...) G_GNUC_PRINTF(3, 4);
static int fail(GError **error, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, QC_ERROR, -r, message);
    return r;
}

/* What opening says, in the terms of a control file. */
static int command_error(int r)
{
    switch (r) {
    case -EINVAL: /* the header */
        return -EUCLEAN;
    case -EAGAIN: /* the metadata keeps changing */
        return -EBUSY;
    case -ELOOP: /* a symbolic link that leads to no file */
    case -ENOTDIR:
        return -ENOENT;
    case -EXDEV:   /* the file is outside the store, */
    case -EDEADLK: /* or in this very tree */
    case -EPERM:
        return -EACCES;
    default:
        return r;
    }
}

/* ---- look -------------------------------------------------------------------------------- */

static int check_item(const char *path, const StoreItem *item, GError **error)
{
    if (item->kind != STORE_IMAGE)
        return fail(error, -ENOENT, "%s is a directory, not an image", path);
    if (item->error) {
        g_propagate_error(error, g_error_copy(item->error));
        return command_error(-item->error->code);
    }
    if (item->format == QC_FORMAT_QCOW2)
        return 0;
    return fail(error, -EOPNOTSUPP, "%s is a %s image; commands are for qcow2 images", path,
                item->format_name);
}

static int look(Fs *fs, const char *path, const Creds *creds, StoreItem *item, Target *ret_target,
                GError **error)
{
    int r = store_look_as(fs->gate, creds, path, item);

    if (r < 0)
        return fail(error, r, r == -ENOENT ? "no such image: %s" : "cannot reach %s", path);
    if (creds_may(creds, &item->stat, CREDS_WRITE))
        *ret_target = (Target){.allowed = item->kind == STORE_IMAGE, .file = item->stat};
    else if (!item->error) /* which is told everybody */
        return fail(error, -EACCES, "you may not write %s", path);
    return check_item(path, item, error);
}

void perform_find(Fs *fs, const char *path, const Creds *creds, Target *ret)
{
    g_auto(StoreItem) item = {0};
    g_autoptr(GError) error = NULL;

    look(fs, path, creds, &item, ret, &error);
}

/* ---- open -------------------------------------------------------------------------------- */

/* Name the processes that are in the way of the lock. */
static void explain_busy(Fs *fs, const char *path, const QcFileStat *file, GError **error)
{
    g_autofree char *holder = keeper_find_holder(fs->keeper, file);

    if (holder)
        g_prefix_error(error, "%s %s open: ", holder, path);
    else
        g_prefix_error(error,
                       "a process not seen from here (of another user or machine) has %s "
                       "open: ",
                       path);
}

/* Whether a process uses a block device by a node on which our lock is not. */
static int check_other_nodes(const Work *work, GError **error)
{
    const char *path = work->path;
    g_autofree char *user = NULL;
    int r = fs_find_device_user(work->fs, &work->target->file, true, 0, &user);

    if (r == -EBUSY)
        return fail(error, r, "%s %s open: another process uses the device; stop it first", user,
                    path);
    if (r == -EACCES)
        return fail(error, r,
                    "%s is a block device, and this daemon may not look at all processes, so "
                    "whether one of them uses it cannot be told; let root mount",
                    path);
    if (r == -ETIMEDOUT)
        return fail(error, -EBUSY,
                    "%s is a block device, and it took too long to look at all open files of this "
                    "machine for who uses it",
                    path);
    if (r < 0)
        return fail(error, r, "who uses %s cannot be told: %s", path, g_strerror(-r));
    return 0;
}

/* A QcGuardFunc. */
static int last_look(void *data)
{
    Work *work = data;

    g_clear_error(&work->refused);
    return check_other_nodes(work, &work->refused);
}

static int open_for_writing(const Work *work, QcFile **ret, GError **error)
{
    const char *path = work->path;
    g_autoptr(QcFile) file = NULL;
    QcFileStat stat;
    int r = qc_gate_open(work->fs->gate, path, true, &file, error);

    if (r == -EBUSY)
        explain_busy(work->fs, path, work->file, error);
    else if (r == 0 && (r = qc_file_stat(file, &stat)) < 0)
        fail(error, r, "cannot look at %s: %s", path, g_strerror(-r));
    if (r < 0)
        return command_error(r);
    if (!qc_file_same_file(&stat, work->file))
        return fail(error, -EBUSY, "%s is being replaced by another file; try again", path);
    work->target->file = stat; /* overlayfs makes a new file when one is opened for writing */
    r = qc_lock_writer(file, error);
    if (r == -EBUSY)
        explain_busy(work->fs, path, work->file, error);
    if (r == 0)
        r = check_other_nodes(work, error);
    if (r == 0)
        *ret = g_steal_pointer(&file);
    return r;
}

/* ---- claim ------------------------------------------------------------------------------- */

/* Whether the caller can see that there is an image at this path: by listing its directory. */
static bool may_see(const Work *work, const char *path)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *dir = slash ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
    g_auto(StoreItem) item = {0};

    return store_look_as(work->fs->gate, work->creds, dir, &item) == 0 &&
           creds_may(work->creds, &item.stat, CREDS_READ);
}

/* Why a part cannot be changed; the images that are open with it are named as far as the caller may
 * know of them, or, for others, where it is the image itself (g_free). */
static char *explain_readers(const Work *work, char **paths, bool for_others)
{
    g_autoptr(GString) names = g_string_new(NULL);
    bool disk = work->command->verb == COMMAND_REVERT;
    unsigned shown = 0;

    for (char **path = paths; *path && shown < READERS_SHOWN; path++) {
        if (for_others ? g_str_equal(*path, work->path) : may_see(work, *path))
            g_string_append_printf(names, "%s%s", shown++ > 0 ? ", " : "", *path);
    }
    if (shown == 0)
        g_string_append(names, for_others ? "another image" : "an image that you may not see");
    return g_strdup_printf("somebody is reading this %s through this tree, in %s; close it first",
                           disk ? "disk" : "snapshot", names->str);
}

/* Claim what the command changes besides the image's metadata. */
static int claim_part(const Work *work, const QcSnapshot *snapshot, GError **error)
{
    bool disk = work->command->verb == COMMAND_REVERT;
    g_autofree char *part = disk ? g_strdup(CLAIMS_DISK) : subject_part_of_snapshot(snapshot);
    int r = claims_change(work->fs->claims, work->file, part);

    if (r == 0)
        return 0;
    g_auto(GStrv) readers = claims_readers(work->fs->claims, work->file, part);
    g_autofree char *message = explain_readers(work, readers, false);
    work->said->to_others = explain_readers(work, readers, true);
    return fail(error, r, "%s", message);
}

/* ---- act --------------------------------------------------------------------------------- */

static int take(Work *work, QcImage *image, const Naming *naming, GError **error)
{
    g_autofree char *name = NULL;
    int r = naming_choose(naming, NAMING_NONE, work->command->name, &name, error);

    if (r < 0)
        return r;
    return qc_snapshot_take(image, name, g_get_real_time() * 1000, work->run, error);
}

static int rename_to(Work *work, QcImage *image, const Naming *naming, unsigned index,
                     GError **error)
{
    g_autofree char *name = NULL;
    int r = naming_choose(naming, index, work->command->new_name, &name, error);

    if (r < 0)
        return r;
    return qc_snapshot_rename(image, index, name, work->run, error);
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static int check(QcImage *image, const QcRun *run, char **ret_note, GError **error)
{
    QcCheck result;
    int r = qc_image_check(image, run, &result, error);

    if (r < 0)
        return r;
    if (result.errors > 0)
        r = fail(error, -EUCLEAN,
                 "%" G_GUINT64_FORMAT " error%s and %" G_GUINT64_FORMAT
                 " leaked cluster%s; the first error: %s",
                 result.errors, plural(result.errors), result.leaks, plural(result.leaks),
                 result.first);
    else if (result.leaks > 0)
        *ret_note = g_strdup_printf("no errors, %" G_GUINT64_FORMAT
                                    " leaked cluster%s (repair gives the space back)",
                                    result.leaks, plural(result.leaks));
    else
        *ret_note = g_strdup_printf("no errors, no leaked clusters%s",
                                    qc_image_info(image)->corrupt
                                        ? "; but it is marked corrupt (repair takes that away)"
                                        : "");
    return r;
}

static int repair(QcImage *image, QcRun *run, char **ret_note, GError **error)
{
    const QcInfo *info = qc_image_info(image);
    bool marked = info->dirty || info->corrupt;
    QcCheck found;
    int r = qc_image_repair(image, run, &found, error);

    if (r < 0)
        return r;
    if (found.errors > 0 || found.leaks > 0)
        *ret_note =
            g_strdup_printf("%" G_GUINT64_FORMAT " error%s mended, %" G_GUINT64_FORMAT
                            " leaked cluster%s given back",
                            found.errors, plural(found.errors), found.leaks, plural(found.leaks));
    else
        *ret_note = g_strdup(marked ? "no errors, no leaked clusters; its mark is taken away"
                                    : "there was nothing to mend");
    return 0;
}

/* Revert to, or delete, what nobody reads. */
static int change_part(Work *work, QcImage *image, unsigned index, GError **error)
{
    int r = claim_part(work, &qc_image_info(image)->snapshots[index], error);

    if (r < 0)
        return r;
    if (work->command->verb == COMMAND_REVERT)
        return qc_snapshot_revert(image, index, work->run, error);
    return qc_snapshot_delete(image, index, work->run, error);
}

/* The commands on one snapshot that exists. */
static int act_on_snapshot(Work *work, QcImage *image, const Naming *naming, GError **error)
{
    CommandVerb verb = work->command->verb;
    unsigned index = 0;
    int r = naming_find(naming, work->command->name, &index, error);

    if (r < 0)
        return r;
    r = verb == COMMAND_RENAME ? rename_to(work, image, naming, index, error)
                               : change_part(work, image, index, error);
    if (r == 0 && verb != COMMAND_REVERT)
        naming_note_former(naming, index);
    return r;
}

/* The commands that take a name. */
static int act_by_name(Work *work, QcImage *image, GError **error)
{
    g_auto(Naming) naming = {0};
    int r =
        naming_begin(&naming, work->fs->formerly, &work->target->file, qc_image_info(image), error);

    if (r < 0)
        return r;
    return work->command->verb == COMMAND_TAKE ? take(work, image, &naming, error)
                                               : act_on_snapshot(work, image, &naming, error);
}

static int act(Work *work, QcImage *image, GError **error)
{
    switch (work->command->verb) {
    case COMMAND_CHECK:
        return check(image, work->run, &work->said->note, error);
    case COMMAND_REPAIR:
        return repair(image, work->run, &work->said->note, error);
    default:
        return act_by_name(work, image, error);
    }
}

/* From here on, another process may write; readers wait for the end of the command to look. */
static void let_go(const Work *work, QcFile *file)
{
    qc_lock_linger(file); /* nobody has to wait for that */
    claims_unlocking(work->fs->claims, work->file);
    qc_lock_release(file);
}

/* From open to act. */
static int perform_on(Work *work, GError **error)
{
    const char *path = work->path;
    g_autoptr(QcFile) file = NULL;
    g_autoptr(QcCache) cache = qc_cache_new(PERFORM_CACHE_BYTES);
    g_autoptr(QcImage) image = NULL;
    int r =
        cache ? open_for_writing(work, &file, error) : fail(error, -ENOMEM, "no memory for tables");

    if (r < 0)
        return r;
    claims_locked(work->fs->claims, work->file);
    r = command_error(qc_image_open(file, path, QC_FORMAT_QCOW2, cache, &image, error));
    if (r == 0 && qc_image_unsupported(image))
        r = fail(error, -EOPNOTSUPP, "%s: %s", path, qc_image_unsupported(image));
    if (r == 0) {
        work->opened = true;
        work->run->guard = last_look;
        work->run->guard_data = work;
        r = act(work, image, error);
    }
    if (work->refused) { /* the engine does not know who it was */
        g_clear_error(error);
        g_propagate_error(error, g_steal_pointer(&work->refused));
    }
    let_go(work, file);
    return r;
}

/* What the errno leaves open: which file, and what to do. */
static void add_advice(const Work *work, int r, GError **error)
{
    const char *advice = NULL;

    if (r == -ENOSPC || r == -EDQUOT)
        advice = "every command, deleting too, needs a little room; nothing was changed";
    else if (r == -EUCLEAN && work->opened && work->command->verb != COMMAND_REPAIR)
        advice = "repair mends what can be mended without loss";
    else if (r == -EUCLEAN && !g_error_matches(*error, QC_ERROR, EINVAL)) /* not of a bad header */
        advice = "qemu-img check -r all may save something: try it on a copy";
    else if (r == -EACCES && g_error_matches(*error, QC_ERROR, EPERM))
        advice = "is the file immutable (lsattr)?";
    if (!advice || !*error)
        return;

    g_autofree char *said = g_steal_pointer(&(*error)->message);
    bool named = !work->opened; /* what goes wrong later does not say where */
    (*error)->message =
        g_strdup_printf("%s%s%s; %s", named ? "" : work->path, named ? "" : ": ", said, advice);
}

int perform(Fs *fs, const char *path, const Creds *creds, const Command *command, QcRun *run,
            Target *ret_target, Said *ret_said, GError **error)
{
    g_auto(StoreItem) item = {0};
    Work work = {.fs = fs,
                 .path = path,
                 .creds = creds,
                 .command = command,
                 .file = &item.stat,
                 .run = run,
                 .target = ret_target,
                 .said = ret_said};
    int r;

    if (fs->read_only)
        return fail(error, -EROFS, "the tree is mounted read-only");
    r = look(fs, path, creds, &item, ret_target, error);
    if (r < 0)
        return r;
    if (claims_begin(fs->claims, &item.stat) < 0)
        return fail(error, -EIO,
                    "an earlier command failed so late that nobody knows what is on disk; run "
                    "qemu-img check, then mount again");
    ret_target->begun = true;
    r = perform_on(&work, error);
    if (r < 0)
        add_advice(&work, r, error);
    images_drop(fs->images, path);
    claims_end(fs->claims, &ret_target->file, run->unknown); /* as it was once opened for writing */
    memory_give_back();
    return r;
}
