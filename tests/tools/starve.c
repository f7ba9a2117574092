/*
 * starve - no memory: every malloc() of a command fails in turn, those inside libraries too. Each
 * time in a process of its own, on an image in shared memory. The command says ENOMEM and the
 * image is before, or it succeeds all the same and the image is after; and it is sound. GLib
 * ends the process when it has no memory for something small: that is a failure.
 *
 *   starve [-n MOST] [SAMPLE...]    without names, all samples; of big ones only MOST of the calls
 *                                   (30), see points.h
 *
 * malloc() itself is replaced here, so this program is of no use with a sanitizer, which does the
 * same; it is not built then (tests/CMakeLists.txt). What the engine allocates itself is tried in
 * engine/memory.c, in all builds.
 */
#include "outcome.h"
#include "points.h"
#include "samples.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *mem, size_t size);

static int64_t calls, fail_at = -1;

static bool due(void)
{
    if (fail_at < 0 || calls++ != fail_at)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return due() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return due() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *mem, size_t size)
{
    return due() ? NULL : __libc_realloc(mem, size);
}

/* How the process of a command can end. */
enum {
    DONE = 10,
    NO_MEMORY,
    OTHER_ERROR,
    NOT_REACHED,
};

typedef struct Counts {
    unsigned long failed, done, reported, left_out;
} Counts;

static int64_t *child_calls; /* of malloc(), in the process that ended last */
static gint most = 30;       /* mallocs of a command on a big sample that fail */

static int make_shared(const MemFile *image)
{
    int fd = memfd_create("image", 0);
    const uint8_t *bytes = image->data->data;
    for (size_t at = 0; fd >= 0 && at < image->data->len;) {
        ssize_t n = pwrite(fd, bytes + at, image->data->len - at, (off_t)at);
        if (n <= 0)
            exit(1);
        at += (size_t)n;
    }
    return fd;
}

static MemFile *read_shared(int fd, const MemFile *before)
{
    off_t len = lseek(fd, 0, SEEK_END);
    g_autofree uint8_t *bytes = g_malloc((gsize)len);
    if (pread(fd, bytes, (size_t)len, 0) != len)
        exit(1);
    MemFile *file = mem_file_new(bytes, (size_t)len);
    file->gate = before->gate;
    return file;
}

static void run_child(int fd, QcGate *gate, const Step *c, int64_t n)
{
    struct rlimit none = {0, 0};
    QcFile *file;
    bool unknown;
    setrlimit(RLIMIT_CORE, &none);
    if (!freopen("/dev/null", "w", stderr) || qc_file_new_fd(fd, &file) < 0)
        _exit(OTHER_ERROR);
    calls = 0;
    fail_at = n;
    int err = script_run_on(file, gate, c, &unknown);
    bool reached = calls > n;
    fail_at = -1;
    *child_calls = calls;
    if (!reached)
        _exit(NOT_REACHED);
    _exit(err == 0 ? DONE : err == -ENOMEM ? NO_MEMORY : OTHER_ERROR);
}

/* What is wrong with how it ended, or NULL. */
static const char *judge(int status, MemFile *file, const Outcome *before, const Outcome *after)
{
    Outcome now = outcome_of_file(file);
    bool is_before = outcome_same(&now, before), is_after = outcome_same(&now, after);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome_clear(&now);
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGTRAP || WTERMSIG(status) == SIGABRT ? "ended by GLib"
                                                                          : "killed by a signal";
    if (!is_before && !is_after)
        return "neither before nor after";
    if (code == OTHER_ERROR)
        return "another error than ENOMEM";
    if (code == DONE && !is_after)
        return "success, but nothing changed";
    if (code == NO_MEMORY && !is_before)
        return "ENOMEM, but changed";
    return NULL;
}

/* A command on an image, and what it makes of it. */
typedef struct Trial {
    const MemFile *image;
    Step command;
    Outcome before, after;
    int64_t n_calls; /* of malloc() */
} Trial;

/* Let malloc n fail. NULL, or what is wrong. */
static const char *starve_at(const Trial *t, int64_t n, Counts *counts, bool *ret_reached)
{
    const char *wrong = NULL;
    int fd = make_shared(t->image), status;
    pid_t pid = fork();
    if (pid == 0)
        run_child(fd, t->image->gate, &t->command, n);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        exit(1);
    *ret_reached = !WIFEXITED(status) || WEXITSTATUS(status) != NOT_REACHED;
    if (*ret_reached) {
        MemFile *file = read_shared(fd, t->image);
        wrong = judge(status, file, &t->before, &t->after);
        qc_file_unref(mem_file(file));
        counts->failed++;
        counts->done += WIFEXITED(status) && WEXITSTATUS(status) == DONE;
        counts->reported += WIFEXITED(status) && WEXITSTATUS(status) == NO_MEMORY;
    }
    close(fd);
    return wrong;
}

/* All calls, or those that are chosen of many. */
static bool starve_everywhere(const Trial *t, const char *name, bool big, uint32_t seed,
                              Counts *counts)
{
    g_autoptr(GArray) points = points_choose(t->n_calls, big ? (unsigned)most : 0, seed);
    const char *wrong = NULL;
    bool reached = true, all = points->len == t->n_calls;
    int64_t n = 0;
    counts->left_out += (unsigned long)t->n_calls - points->len;
    for (guint i = 0; !wrong && reached && (all || i < points->len); i++) {
        n = i < points->len ? g_array_index(points, int64_t, i) : n + 1;
        wrong = starve_at(t, n, counts, &reached);
        reached = reached || !all; /* the number of calls may differ a little */
    }
    if (wrong)
        fprintf(stderr, "%s, malloc %d: %s\n", name, (int)n, wrong);
    return !wrong;
}

static bool starve(const Sample *s, QcGate *gate, unsigned command, Counts *counts)
{
    Trial t = {.command = sample_command(s, command)};
    g_autofree char *name =
        g_strdup_printf("%s, %s", s->kind.name, sample_command_name(s, command));
    bool unknown, reached, ok = true;
    MemFile *image = sample_make_for(s, gate, command), *done = mem_file_copy(image);
    t.image = image;
    if (sample_expected(s, &t.command) == 0 && script_run(done, &t.command, &unknown) == 0) {
        t.before = outcome_of_file(image);
        t.after = outcome_of_file(done);
        starve_at(&t, INT64_MAX, counts, &reached); /* only to count */
        t.n_calls = *child_calls;
        ok = starve_everywhere(&t, name, sample_is_big(s), command, counts);
        outcome_clear(&t.before);
        outcome_clear(&t.after);
    }
    qc_file_unref(mem_file(done));
    qc_file_unref(mem_file(image));
    return ok;
}

static bool wanted(const Sample *s, char **names)
{
    return !*names || g_strv_contains((const char *const *)names, s->kind.name);
}

static bool starve_all(char **names, QcGate *gate, Counts *n)
{
    for (size_t i = 0; i < n_samples; i++) {
        unsigned long failed = n->failed;
        if (!wanted(&samples[i], names))
            continue;
        for (unsigned c = 0; c < sample_n_commands(&samples[i]); c++)
            if (!starve(&samples[i], gate, c, n))
                return false;
        printf("%-26s %8lu\n", samples[i].kind.name, n->failed - failed);
        fflush(stdout);
    }
    return true;
}

int main(int argc, char **argv)
{
    g_autofree char *dir = g_dir_make_tmp("starve.XXXXXX", NULL);
    g_autofree char *base = g_build_filename(dir, "base.raw", NULL);
    QcGate *gate = samples_make_base(dir);
    Counts n = {0};
    char **names = argv + 1;
    if (argc > 2 && g_str_equal(argv[1], "-n")) {
        most = atoi(argv[2]);
        names += 2;
    }
    child_calls =
        mmap(NULL, sizeof(*child_calls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (child_calls == MAP_FAILED)
        return 1;
    mem_keep_memory();
    bool ok = starve_all(names, gate, &n);
    printf(
        "%lu mallocs failed, each in a process of its own: %lu commands said ENOMEM and the image "
        "is before, %lu succeeded and it is after, %s; of the big samples %lu were left out\n",
        n.failed, n.reported, n.done, ok ? "no process was ended" : "and one did neither",
        n.left_out);
    qc_gate_unref(gate);
    g_unlink(base);
    g_rmdir(dir);
    if (ok && n.reported < (*names ? 50 : 5000)) {
        fprintf(stderr, "that is too few\n");
        ok = false;
    }
    return ok ? 0 : 1;
}
