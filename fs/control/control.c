/*
 * control.c - an open control file.
 *
 * A write becomes a Job (job.h). A descriptor that has written reads the results of its last write.
 * A read starts the text wherever the file offset is then (it stands behind what was written), or
 * at any offset before that, to which the reader went back. Control.lock protects the fields that
 * say so.
 */
#include "control.h"

#include "command.h"
#include "job.h"

struct Control {
    Fs *fs;
    char *image;
    QcFileStat file; /* the image's, when it was opened; zeros: there is none */
    Creds *opener;   /* a command needs the rights of both the opener and the writer */
    uid_t reader;    /* to whom it shows results, or JOURNAL_ALL */
    gatomicrefcount refs;
    GMutex lock;
    GString *text;   /* what reads give; NULL: not worked out yet; lock */
    bool written;    /* text is the result of a write; lock */
    uint64_t origin; /* file offset at which text starts; UINT64_MAX: at the next read; lock */
};

static bool is_of_store(const Control *control)
{
    return *control->image == '\0';
}

Control *control_open(Fs *fs, const char *image, const Creds *creds)
{
    Control *control = g_new0(Control, 1);

    control->fs = fs;
    control->image = g_strdup(image);
    if (!is_of_store(control) && qc_gate_stat(fs->gate, image, &control->file) < 0)
        control->file = (QcFileStat){0};
    control->opener = creds_copy(creds);
    control->reader = creds_is_trusted(creds) ? JOURNAL_ALL : creds->uid;
    g_atomic_ref_count_init(&control->refs);
    g_mutex_init(&control->lock);
    return control;
}

void control_unref(Control *control)
{
    if (!control || !g_atomic_ref_count_dec(&control->refs))
        return;
    if (control->text)
        g_string_free(control->text, TRUE);
    g_mutex_clear(&control->lock);
    creds_free(control->opener);
    g_free(control->image);
    g_free(control);
}

/* ---- write and read ---------------------------------------------------------------------- */

/* A JobDoneFunc; data is the Control, whose reference is given up. */
static void take_results(gpointer data, const char *results)
{
    Control *control = data;

    g_mutex_lock(&control->lock);
    g_string_assign(control->text, results);
    control->origin = UINT64_MAX; /* what was read while it ran was another text */
    g_mutex_unlock(&control->lock);
    control_unref(control);
}

void control_write(Control *control, fuse_req_t req, const char *bytes, size_t len, Creds *creds)
{
    const JobWrite write = {
        .req = req,
        .image = control->image,
        .file = control->file,
        .bytes = bytes,
        .len = len,
        .creds = creds,
    };

    creds->opener = control->opener;
    g_mutex_lock(&control->lock);
    if (!control->text)
        control->text = g_string_new(NULL);
    control->written = true;
    control->origin = UINT64_MAX;
    g_mutex_unlock(&control->lock);

    g_atomic_ref_count_inc(&control->refs);
    job_start(control->fs, &write, take_results, control);
}

/* The file that the control file is about; false: there is none, or the opener may not read it. */
static bool find_file(const Control *control, QcFileStat *ret)
{
    g_auto(StoreItem) item = {0};

    if (store_look_as(control->fs->gate, control->opener, control->image, &item) < 0)
        return false;
    *ret = item.stat;
    return creds_may(control->opener, &item.stat, CREDS_READ);
}

/* What a descriptor that has not written shows: the commands, then the recent results. */
static GString *overview(Control *control)
{
    Journal *journal = control->fs->journal;
    QcFileStat file;
    bool of_store = is_of_store(control), known = of_store || find_file(control, &file);
    g_autofree char *results =
        known ? journal_text(journal, control->image, control->reader, of_store ? NULL : &file)
              : g_strdup("");
    g_autofree char *help = control->fs->read_only ? g_strdup("# mounted read-only: no commands\n")
                                                   : command_help(of_store);
    GString *text = g_string_new(help);

    return g_string_append(text, results);
}

/* Where a read at offset is in the text. Lock held. */
static uint64_t place_of(Control *control, uint64_t offset)
{
    if (!control->written)
        return offset;
    if (offset < control->origin) /* the first read, or one that went back */
        control->origin = offset;
    return offset - control->origin;
}

/* Whether a read at this offset is given a new overview. */
static bool begins_anew(Control *control, uint64_t offset)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&control->lock);

    return !control->text || (!control->written && offset == 0);
}

/* Have reads give this text, unless there was a write meanwhile. Takes text. */
static void show(Control *control, GString *text)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&control->lock);
    GString *unused = control->written ? text : control->text;

    if (!control->written)
        control->text = text;
    if (unused)
        g_string_free(unused, TRUE);
}

GBytes *control_read(Control *control, size_t len, uint64_t offset)
{
    if (begins_anew(control, offset))
        show(control, overview(control));

    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&control->lock);
    uint64_t place = place_of(control, offset);
    if (place >= control->text->len)
        return g_bytes_new(NULL, 0);
    return g_bytes_new(control->text->str + place, MIN(len, control->text->len - place));
}
