/*
 * job.c - see job.h.
 *
 * The commands of a job run in the thread pool, each in two steps: in the queue of its image's path
 * it is found out which file lies there, and in the queue of that file, which may have several
 * paths, the command is run (serial.h). Only these steps use the storage, which may not answer: the
 * threads of requests, and the one that drops what is not wanted any more, do without. The job
 * belongs to one thread at a time: to the one that runs its current command, or looks whether that
 * is still to be run. Only `signalled` is set by others.
 *
 * What a command says goes to the control file that was written to, and, where that is the
 * store's, to the image's own as well. The latter is read by all who may read the image; so to
 * others than who has asked it does not name other images, which not all of them may see.
 *
 * The log, which outlives the daemon, has a line for each command that was begun on an image.
 * Nobody fills it who may not write one: what is refused, or not understood, is not logged.
 */
#include "job.h"

#include "answer.h"
#include "command.h"
#include "log.h"
#include "perform.h"
#include "text.h"
#include "writer.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define LOOK_INTERVAL (100 * G_TIME_SPAN_MILLISECOND)

enum {
    SHORT_COMMAND = 128, /* bytes of a command that are always told, however long the reason is */
};

/* What is known of the thread that waits for the write; see is_stopped(). */
typedef struct Watch {
    gint signalled; /* atomic: it got a signal; which one is looked up */
    gint64 asked;   /* when it was looked up last: monotonic time, microseconds */
    gint64 looked;  /* when it was looked last whether the thread is still there */
    bool seen;      /* it was there */
} Watch;

/* The command that waits or runs. */
typedef struct Current {
    Command *command;
    char *path;    /* its image */
    Target target; /* what lies there, as far as it is known by now */
    int percent;   /* shown last; -1: nothing yet */
    bool told;     /* to stop: then, and only then, -ECANCELED is of us, not of the storage */
} Current;

typedef struct Job {
    Fs *fs;
    JobWrite write;
    JobDoneFunc done;
    gpointer data;
    bool counted; /* among the writes of a user */
    Script *script;
    Current current;
    GString *results;
    int error; /* of the last command */
    Watch watch;
    const char *stopped; /* why no more of it is to be done, in words, or NULL */
} Job;

static void job_next(Job *job);

static bool is_of_store(const Job *job)
{
    return *job->write.image == '\0';
}

/* ---- what is said of the current command ------------------------------------------------- */

/* At one moment; each without its newline. */
typedef struct Lines {
    char *own;      /* for the descriptor, with the command as it was typed */
    char *of_page;  /* the same for later descriptors of the control file that was written to */
    char *of_image; /* for the image's own, with the command as one types it there; NULL: none */
} Lines;

static void lines_clear(Lines *lines)
{
    g_free(lines->own);
    g_free(lines->of_page);
    g_free(lines->of_image);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Lines, lines_clear)

/* note: NULL for none (g_free). */
static char *make_line(const char *when, const char *status, const char *text, const char *note)
{
    return g_strconcat(when, " ", status, " ", text, note ? ": " : "", note, NULL);
}

/*
 * The same for the journal, which keeps only the beginning of a long line: rather than the reason,
 * the command is shortened.
 */
static char *make_page_line(const char *when, const char *status, const char *text,
                            const char *note)
{
    g_autofree char *whole = make_line(when, status, text, note);
    size_t len = strlen(text), excess = strlen(whole) - MIN(strlen(whole), JOURNAL_BYTES);

    if (excess == 0 || len <= SHORT_COMMAND)
        return g_steal_pointer(&whole);
    excess += strlen("...");
    g_autofree char *cut = journal_cut(text, MAX(len - MIN(len, excess), SHORT_COMMAND));
    g_autofree char *shorter = g_strconcat(cut, "...", NULL);
    return make_line(when, status, shorter, note);
}

/* note: NULL for none. */
static Lines make_lines(const Job *job, const char *status, const char *note)
{
    const Current *current = &job->current;
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    const char *typed = current->command->text;
    Lines lines = {
        .own = make_line(when, status, typed, note),
        .of_page = make_page_line(when, status, typed, note),
    };

    /* Not for made-up paths; and users who may not write an image do not fill its journal. */
    if (is_of_store(job) && current->target.allowed) {
        g_autofree char *text = command_to_text(current->command, NULL);

        lines.of_image = make_page_line(when, status, text, note);
    }
    return lines;
}

/* A refused command has no target; at an image's control file it is about that image. */
static JournalAbout about_of(const Job *job)
{
    const Target *target = &job->current.target;

    return (JournalAbout){
        .who = job->write.creds->uid,
        .file = target->allowed ? target->file : job->write.file,
    };
}

/* As the log and the results name it: "ok", or an errno. */
static const char *status_of(int error)
{
    const char *name = error == 0 ? "ok" : strerrorname_np(-error);

    return name ? name : "EIO";
}

/* Note how the command ended, for this descriptor and for later ones. reason, to_others: NULL for
 * none. */
static void note_result(Job *job, int error, const char *reason, const char *to_others)
{
    Journal *journal = job->fs->journal;
    const JournalAbout about = about_of(job);
    g_autofree char *note = reason       ? text_one_line(reason)
                            : error == 0 ? NULL
                                         : g_strdup(g_strerror(-error));
    g_autofree char *other_note = to_others ? text_one_line(to_others) : g_strdup(note);
    g_auto(Lines) lines = make_lines(job, status_of(error), note);
    g_auto(Lines) others = make_lines(job, status_of(error), other_note);

    g_string_append_printf(job->results, "%s\n", lines.own);
    journal_add(journal, job->write.image, &about, lines.of_page, others.of_page);
    if (lines.of_image)
        journal_add(journal, job->current.path, &about, lines.of_image, others.of_image);
}

static void show_running(Job *job, unsigned percent)
{
    Journal *journal = job->fs->journal;
    const JournalAbout about = about_of(job);
    g_autofree char *status = g_strdup_printf("%u%%", percent);
    g_auto(Lines) lines = make_lines(job, status, NULL);

    journal_set_running(journal, job->write.image, &about, job, lines.of_page);
    if (lines.of_image)
        journal_set_running(journal, job->current.path, &about, job, lines.of_image);
}

static void show_running_no_more(Job *job)
{
    journal_clear_running(job->fs->journal, job->write.image, job);
    if (is_of_store(job))
        journal_clear_running(job->fs->journal, job->current.path, job);
}

/* Tell the log of what was done, or tried, on an image, and by whom. check changes nothing. */
static void log_command(const Job *job, int error)
{
    const Current *current = &job->current;
    const struct fuse_ctx *writer = fuse_req_ctx(job->write.req);

    if (!current->target.begun || current->command->verb == COMMAND_CHECK)
        return;
    g_autofree char *whole = command_to_text(current->command, current->path);
    g_autofree char *text = journal_cut(whole, JOURNAL_BYTES);
    log_info("%s%s: %s (uid %u, process %d)", text, strlen(text) < strlen(whole) ? "..." : "",
             status_of(error), (unsigned)writer->uid, (int)writer->pid);
}

/* ---- whether it is still wanted ---------------------------------------------------------- */

/* The writer got a signal. Nothing else is done here: a lock of libfuse is held. */
static void on_signal(fuse_req_t req, void *data)
{
    Job *job = data;

    (void)req;
    g_atomic_int_set(&job->watch.signalled, 1);
}

/* In microseconds, and some milliseconds late: a command asks at each of millions of steps. */
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
 * Whether the writer is to stop, or is gone. The kernel tells of the writer's first signal only,
 * which may be a harmless one; so from then on /proc is looked at, now and then. Of the writer of
 * an asynchronous write (libaio) the kernel tells nothing, not even that it is gone.
 */
static bool is_stopped(Job *job)
{
    Watch *watch = &job->watch;
    pid_t writer = fuse_req_ctx(job->write.req)->pid;
    bool told = g_atomic_int_get(&watch->signalled);

    /* over a ring, the kernel does not tell of signals that came before the write */
    if ((told || job->fs->ring) && is_due(&watch->asked))
        job->stopped = writer_asked_to_stop(writer, told) ? "by a signal" : job->stopped;
    if (is_due(&watch->looked) && writer_has_ended(writer, &watch->seen))
        job->stopped = "as its writer is gone";
    return job->stopped;
}

/* Whether the command is not even to begin. */
static bool is_unwanted(gpointer data)
{
    Job *job = data;

    if (atomic_load(&job->fs->ending))
        job->stopped = "as the tree is being unmounted";
    return is_stopped(job);
}

/* A QcProgressFunc. */
static bool go_on(void *data, unsigned percent)
{
    Job *job = data;

    if (job->current.percent != (int)percent) {
        job->current.percent = (int)percent;
        show_running(job, percent);
    }
    job->current.told = job->current.told || is_stopped(job);
    return !job->current.told;
}

/* ---- one command after another ----------------------------------------------------------- */

/* The user among whose writes it counts: the writer, or, if that one is trusted, the opener. */
static const Creds *payer(const Creds *creds)
{
    return creds_is_trusted(creds) ? creds->opener : creds;
}

static void job_finish(Job *job)
{
    fuse_req_t req = job->write.req;

    if (job->counted)
        allowance_give_back(job->fs->writes, payer(job->write.creds)->uid);
    job->done(job->data, job->results->str);
    fuse_req_interrupt_func(req, NULL, NULL); /* and on_signal() is not running any more */
    if (job->error < 0)
        fuse_reply_err(req, -job->error);
    else
        fuse_reply_write(req, job->write.len);
    creds_free(job->write.creds);
    script_free(job->script);
    g_string_free(job->results, TRUE);
    g_free(job->current.path);
    g_free(job);
}

static void end_command(Job *job, int error, const char *reason, const char *to_others)
{
    job->error = answer_error(error);
    note_result(job, job->error, reason, to_others);
    job_next(job);
}

/* In words (g_free). */
static char *why_cancelled(const Job *job, const char *rest)
{
    return g_strdup_printf("cancelled %s%s", job->stopped, rest);
}

/* End a command that waits, or was just about to begin. */
static void cancel_command(gpointer data)
{
    Job *job = data;
    g_autofree char *reason = why_cancelled(job, " before it began");

    end_command(job, -ECANCELED, reason, NULL);
}

/* Called when it is the command's turn in the queue of its image. */
static void run_command(gpointer data)
{
    Job *job = data;
    Current *current = &job->current;
    QcRun run = {.progress = go_on, .progress_data = job};
    g_autoptr(GError) error = NULL;
    g_auto(Said) said = {0};

    if (is_unwanted(job)) {
        cancel_command(job);
        return;
    }
    current->percent = -1;
    int r = perform(job->fs, current->path, job->write.creds, current->command, &run,
                    &current->target, &said, &error);
    show_running_no_more(job);
    if (r == -ECANCELED && !current->told)
        r = -EIO;
    log_command(job, r);
    g_autofree char *cancelled =
        r == -ECANCELED ? why_cancelled(job, "; nothing was changed") : NULL;
    end_command(job, r, cancelled ? cancelled : error ? error->message : said.note, said.to_others);
}

static const SerialKind command_kind = {run_command, is_unwanted, cancel_command};

/* The key of the queue in which commands on one file wait, whatever its names are (g_free). */
static char *queue_of_file(Fs *fs, const char *path)
{
    QcFileStat file;

    return qc_gate_stat(fs->gate, path, &file) < 0 ? g_strdup(path) : claims_key(&file);
}

/* Called when it is the command's turn among those for its path. */
static void find_file(gpointer data)
{
    Job *job = data;
    Current *current = &job->current;

    if (is_unwanted(job)) {
        cancel_command(job);
        return;
    }
    if (is_of_store(job)) /* should it be cancelled, the image's own control file is to tell, too */
        perform_find(job->fs, current->path, job->write.creds, &current->target);
    g_autofree char *queue = queue_of_file(job->fs, current->path);
    serial_push(job->fs->serial, queue, &command_kind, job);
}

static const SerialKind finding_kind = {find_file, is_unwanted, cancel_command};

/* Start the next command, or end the job. */
static void job_next(Job *job)
{
    Current *current = &job->current;

    command_free(current->command);
    g_free(current->path);
    *current = (Current){.command = job->error == 0 ? script_next(job->script) : NULL};

    const Command *command = current->command;
    if (!command) {
        job_finish(job);
        return;
    }
    if (command->error) {
        end_command(job, -command->error->code, command->error->message, NULL);
        return;
    }
    current->path =
        is_of_store(job) ? store_path_from_argument(command->image) : g_strdup(job->write.image);
    if (!current->path) {
        end_command(job, -ENOENT,
                    "no such image; a path begins at the top of this tree, without a / in front, "
                    "and has no .. in it",
                    NULL);
        return;
    }
    g_autofree char *queue = g_strconcat("path ", current->path, NULL);
    serial_push(job->fs->serial, queue, &finding_kind, job);
}

/* The commands of a write, if its user may have one more write under way. */
static Script *admit(Job *job)
{
    const JobWrite *write = &job->write;
    const Creds *user = payer(write->creds);

    job->counted = !creds_is_trusted(user) && allowance_take(job->fs->writes, user->uid);
    if (job->counted || creds_is_trusted(user))
        return script_new(write->bytes, write->len, is_of_store(job));
    return script_new_refused(write->len, EAGAIN,
                              "you, or all users together, have as many writes under way as may "
                              "be; none of this one was run");
}

void job_start(Fs *fs, const JobWrite *write, JobDoneFunc done, gpointer data)
{
    Job *job = g_new0(Job, 1);

    job->fs = fs;
    job->write = *write;
    job->done = done;
    job->data = data;
    job->script = admit(job);
    job->write.bytes = NULL;
    job->results = g_string_new(NULL);

    fuse_req_interrupt_func(write->req, on_signal, job);
    is_stopped(job); /* so that it is known of the writer that it was there */
    job_next(job);
}
