/*
 * Control files.
 *
 * A write becomes a Job: its commands run one after another in the thread pool, each in the
 * line of its image (serial.h), until one fails; then the write is answered and the job is
 * over. A job belongs to one thread at a time: whoever runs its current command, or looks whether
 * it is still to be run.
 *
 * A descriptor that has written reads the results of its last write. A read starts the text
 * wherever the file offset is then (it stands behind what was written), or at any offset
 * before that, to which the reader went back. Control.lock protects the fields that say so.
 */
#include "control.h"

#include "claims.h"
#include "command.h"
#include "perform.h"
#include "text.h"
#include "writer.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_INTERVAL (100 * G_TIME_SPAN_MILLISECOND)

struct Control {
    Fs *fs;
    char *image;
    Creds *opener; /* a command takes his rights as well as the writer's */
    uid_t shown;   /* whose results it shows, or JOURNAL_ALL */
    gatomicrefcount refs;
    GMutex lock;
    GString *text;   /* what reads give; NULL: not worked out yet; lock */
    bool written;    /* text is the result of a write; lock */
    uint64_t origin; /* file offset at which text starts; UINT64_MAX: at the next read; lock */
};

typedef struct Job {
    Control *control; /* a reference */
    fuse_req_t req;
    size_t len; /* what the write is answered with */
    Creds *creds;
    bool counted; /* among the writes of a user */
    Script *script;
    Command *command; /* the current one */
    char *path;       /* its image */
    Target target;    /* what lies there */
    GString *results;
    int error;
    int percent;         /* shown last; -1: nothing yet */
    gint signalled;      /* atomic: the writer got a signal; which one is looked up */
    gint64 asked;        /* when it was looked up last: monotonic time, microseconds */
    gint64 looked;       /* when it was looked last whether there is still a writer */
    bool seen;           /* there was */
    const char *stopped; /* why no more of it is to be done, in words, or NULL */
} Job;

static void job_next(Job *job);

static bool is_of_store(const Control *control)
{
    return *control->image == '\0';
}

/* Root, and who mounted. */
static bool is_trusted(const Creds *creds)
{
    return creds->uid == 0 || creds->uid == geteuid();
}

Control *control_open(Fs *fs, const char *image, const Creds *creds)
{
    Control *control = g_new0(Control, 1);

    control->fs = fs;
    control->image = g_strdup(image);
    control->opener = creds_copy(creds);
    control->shown = is_of_store(control) && !is_trusted(creds) ? creds->uid : JOURNAL_ALL;
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

/* ---- results ----------------------------------------------------------------------------- */

/* The time, as results have it (g_free). */
static char *time_stamp(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();

    return g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
}

/* reason: of an error, or what a command that succeeded has to say, or NULL. */
static char *result_line(const char *text, int error, const char *reason)
{
    g_autofree char *when = time_stamp();
    g_autofree char *why = reason ? text_one_line(reason) : NULL;
    const char *name = strerrorname_np(-error);

    if (error == 0)
        return g_strdup_printf("%s ok %s%s%s", when, text, why ? ": " : "", why ? why : "");
    return g_strdup_printf("%s %s %s: %s", when, name ? name : "EIO", text,
                           why ? why : g_strerror(-error));
}

/* The image that lies now where the control file's lies; false: none, or not for the opener. */
static bool find_file(const Control *control, QcFileStat *ret)
{
    g_auto(StoreItem) item = {0};
    QcGate *gate = control->fs->gate;

    if (store_reach(gate, control->opener, control->image) < 0 ||
        store_look(gate, control->image, &item) < 0)
        return false;
    *ret = item.stat;
    return creds_may(control->opener, &item.stat, CREDS_READ);
}

static JournalAbout about_of(const Job *job)
{
    return (JournalAbout){.who = job->creds->uid, .file = job->target.file};
}

/* Note how a command ended, for this descriptor and for later ones. */
static void note_result(Job *job, int error, const char *reason)
{
    Control *control = job->control;
    const Command *command = job->command;
    g_autofree char *line = result_line(command->text, error, reason);

    JournalAbout about = about_of(job);

    g_string_append_printf(job->results, "%s\n", line);
    if (!is_of_store(control) && !job->target.allowed)
        find_file(control, &about.file);
    journal_add(control->fs->journal, control->image, &about, line);
    /* Neither for images that somebody made up, nor over the results of those who may. */
    if (is_of_store(control) && job->target.allowed) {
        g_autofree char *text = command_to_text(command);
        g_autofree char *for_image = result_line(text, error, reason);

        journal_add(control->fs->journal, job->path, &about, for_image);
    }
}

/* ---- jobs -------------------------------------------------------------------------------- */

/* Whose write it is where they are counted: of writer and opener the one who is not trusted. */
static const Creds *payer(const Creds *creds)
{
    return is_trusted(creds) ? creds->opener : creds;
}

static void job_finish(Job *job)
{
    Control *control = job->control;

    g_mutex_lock(&control->lock);
    g_string_assign(control->text, job->results->str);
    control->origin = UINT64_MAX; /* who read while it ran has read something else */
    g_mutex_unlock(&control->lock);

    if (job->counted)
        allowance_give_back(control->fs->writes, payer(job->creds)->uid);
    fuse_req_interrupt_func(job->req, NULL, NULL); /* and it is not running any more */
    if (job->error < 0)
        fuse_reply_err(job->req, -job->error);
    else
        fuse_reply_write(job->req, job->len);
    control_unref(control);
    creds_free(job->creds);
    script_free(job->script);
    g_string_free(job->results, TRUE);
    g_free(job->path);
    g_free(job);
}

static void end_command(Job *job, int error, const char *reason)
{
    note_result(job, error, reason);
    job->error = error;
    job_next(job);
}

/* Show, or with line NULL no longer, that the current command runs. */
static void show_running(Job *job, const char *line, const char *line_of_image)
{
    Journal *journal = job->control->fs->journal;
    JournalAbout about = about_of(job);

    journal_set_running(journal, job->control->image, &about, job, line);
    if (is_of_store(job->control))
        journal_set_running(journal, job->path, &about, job, line_of_image);
}

/* Microseconds, good enough here. It is asked for at each step of a command, of millions. */
static gint64 coarse_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

/* Whether it is time to look again, after the last time. */
static bool is_due(gint64 *last)
{
    gint64 now = coarse_time();

    if (*last && now - *last < LOOK_INTERVAL)
        return false;
    *last = now;
    return true;
}

/*
 * Whether the writer is to stop. The kernel tells of its first signal only, which may be a
 * harmless one; so from then on we look ourselves, now and then. Of asynchronous writes (libaio) it
 * tells nothing, not even that nobody waits for them any more.
 */
static bool is_stopped(Job *job)
{
    pid_t writer = fuse_req_ctx(job->req)->pid;
    bool told = g_atomic_int_get(&job->signalled);

    /* of signals before a write, a ring does not tell */
    if ((told || job->control->fs->ring) && is_due(&job->asked))
        job->stopped = writer_asked_to_stop(writer, told) ? "by a signal" : job->stopped;
    if (is_due(&job->looked) && writer_has_ended(writer, &job->seen))
        job->stopped = "as its writer is gone";
    return job->stopped;
}

/* A QcProgressFunc. */
static bool go_on(void *data, unsigned percent)
{
    Job *job = data;
    const Command *command = job->command;

    if (job->percent != (int)percent) {
        g_autofree char *when = time_stamp(), *text = command_to_text(command);
        g_autofree char *line = g_strdup_printf("%s %u%% %s", when, percent, command->text);
        g_autofree char *of_image = g_strdup_printf("%s %u%% %s", when, percent, text);

        job->percent = (int)percent;
        show_running(job, line, of_image);
    }
    return !is_stopped(job);
}

/* Whether it is not even to begin. */
static bool is_unwanted(gpointer data)
{
    Job *job = data;

    if (atomic_load(&job->control->fs->ending))
        job->stopped = "as the tree is being unmounted";
    return is_stopped(job);
}

/* In words (g_free). */
static char *why_cancelled(const Job *job, const char *rest)
{
    return g_strdup_printf("cancelled %s%s", job->stopped, rest);
}

/* It waits, or was just about to begin. */
static void cancel_command(gpointer data)
{
    Job *job = data;

    perform_find(job->control->fs, job->path, job->creds, &job->target);
    g_autofree char *reason = why_cancelled(job, " before it began");
    end_command(job, -ECANCELED, reason);
}

/* In the line of the image. */
static void run_command(gpointer data)
{
    Job *job = data;
    Progress progress = {go_on, job};
    g_autoptr(GError) error = NULL;
    g_autofree char *note = NULL;

    if (is_unwanted(job)) {
        cancel_command(job);
        return;
    }
    job->percent = -1;
    int r = perform(job->control->fs, job->path, job->creds, job->command, &progress, &job->target,
                    &note, &error);
    show_running(job, NULL, NULL);
    g_autofree char *cancelled =
        r == -ECANCELED ? why_cancelled(job, "; nothing was changed") : NULL;
    end_command(job, r, cancelled ? cancelled : error ? error->message : note);
}

static const SerialKind command_kind = {run_command, is_unwanted, cancel_command};

/* Where commands on an image wait: an image of several names has one line (g_free). */
static char *line_of(Fs *fs, const char *path)
{
    QcFileStat file;

    return qc_gate_stat(fs->gate, path, &file) < 0 ? g_strdup(path) : claims_key(&file);
}

/* Start the next command, or end the job. */
static void job_next(Job *job)
{
    Control *control = job->control;

    g_clear_pointer(&job->command, command_free);
    if (job->error == 0)
        job->command = script_next(job->script);
    if (!job->command) {
        job_finish(job);
        return;
    }

    const Command *command = job->command;
    g_clear_pointer(&job->path, g_free);
    job->target = (Target){0};
    if (command->error) {
        end_command(job, -command->error->code, command->error->message);
        return;
    }
    job->path =
        is_of_store(control) ? store_path_from_argument(command->image) : g_strdup(control->image);
    if (!job->path) {
        end_command(job, -ENOENT,
                    "no such image; a path begins at the top of this tree, without a / in front, "
                    "and has no . or ..");
        return;
    }
    g_autofree char *line = line_of(control->fs, job->path);
    serial_push(control->fs->serial, line, &command_kind, job);
}

/* ---- write and read ---------------------------------------------------------------------- */

/* The writer got a signal. Nothing else is done here: a lock of libfuse is held. */
static void on_signal(fuse_req_t req, void *data)
{
    Job *job = data;

    (void)req;
    g_atomic_int_set(&job->signalled, 1);
}

/* The commands of a write, if its user may have one more under way. */
static Script *admit(Job *job, const char *bytes)
{
    const Creds *user = payer(job->creds);
    Allowance *writes = job->control->fs->writes;

    job->counted = !is_trusted(user) && allowance_take(writes, user->uid);
    if (job->counted || is_trusted(user))
        return script_new(bytes, job->len, is_of_store(job->control));
    return script_new_refused(job->len, EAGAIN,
                              "you, or all users together, have as many writes under way as may "
                              "be; none of this one was run");
}

void control_write(Control *control, fuse_req_t req, const char *bytes, size_t len, Creds *creds)
{
    Job *job = g_new0(Job, 1);

    g_atomic_ref_count_inc(&control->refs);
    job->control = control;
    job->req = req;
    job->len = len;
    job->creds = creds;
    job->creds->opener = control->opener;
    job->script = admit(job, bytes);
    job->results = g_string_new(NULL);

    g_mutex_lock(&control->lock);
    if (!control->text)
        control->text = g_string_new(NULL);
    control->written = true;
    control->origin = UINT64_MAX;
    g_mutex_unlock(&control->lock);

    fuse_req_interrupt_func(req, on_signal, job);
    is_stopped(job); /* so that it is known of the writer that he was there */
    job_next(job);
}

/* What a descriptor that has not written shows: the commands, then the recent results. */
static GString *overview(Control *control)
{
    Journal *journal = control->fs->journal;
    QcFileStat file;
    bool of_store = is_of_store(control), known = of_store || find_file(control, &file);
    g_autofree char *results =
        known ? journal_text(journal, control->image, control->shown, of_store ? NULL : &file)
              : g_strdup("");
    g_autofree char *help = command_help(is_of_store(control));
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

/* Whether a read there is to find out what there is to be shown. */
static bool begins_anew(Control *control, uint64_t offset)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&control->lock);

    return !control->text || (!control->written && offset == 0);
}

/* Unless somebody has written meanwhile. Takes text. */
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
