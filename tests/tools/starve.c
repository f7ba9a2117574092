/*
 * starve - no memory at all: every malloc() of a command fails in turn, GLib's own included, which
 * end the process. Each time in a process of its own, on an image in shared memory; then the
 * image must be before or after, and sound.
 *
 *   starve [SAMPLE...]    without, all samples that are not big
 *
 * malloc() itself is replaced here, so this program is of no use with a sanitizer, which does the
 * same; it is not built then (tests/CMakeLists.txt). What the engine is prepared to see fail is
 * tried in engine/memory.c, in all builds.
 */
#include "outcome.h"
#include "samples.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    unsigned long failed, done, reported, ended;
} Counts;

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

static void run_child(int fd, QcGate *gate, const Command *c, int64_t n)
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
    if (!is_before && !is_after)
        return "neither before nor after";
    if (code == OTHER_ERROR)
        return "another error than ENOMEM";
    if (code == DONE && !is_after)
        return "success, but nothing changed";
    if (code == NO_MEMORY && !is_before)
        return "ENOMEM, but changed";
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTRAP && WTERMSIG(status) != SIGABRT)
        return "killed by another signal than GLib's";
    return NULL;
}

/* Let malloc n fail. False: there is no such, or something is wrong. */
static bool starve_at(const MemFile *image, const Command *c, int64_t n, const Outcome *before,
                      const Outcome *after, Counts *counts, const char **ret_wrong)
{
    int fd = make_shared(image), status;
    pid_t pid = fork();
    if (pid == 0)
        run_child(fd, image->gate, c, n);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        exit(1);
    bool reached = !WIFEXITED(status) || WEXITSTATUS(status) != NOT_REACHED;
    if (reached) {
        MemFile *file = read_shared(fd, image);
        *ret_wrong = judge(status, file, before, after);
        qc_file_unref(mem_file(file));
        counts->failed++;
        counts->done += WIFEXITED(status) && WEXITSTATUS(status) == DONE;
        counts->reported += WIFEXITED(status) && WEXITSTATUS(status) == NO_MEMORY;
        counts->ended += WIFSIGNALED(status);
    }
    close(fd);
    return reached && !*ret_wrong;
}

static bool starve(const Sample *s, QcGate *gate, unsigned command, Counts *counts)
{
    Command c = sample_command(s, command);
    const char *wrong = NULL;
    bool unknown;
    MemFile *image = sample_make(s, gate), *done = mem_file_copy(image);
    if (sample_expected(s, &c) == 0 && script_run(done, &c, &unknown) == 0) {
        Outcome before = outcome_of_file(image), after = outcome_of_file(done);
        int64_t n = 0;
        while (starve_at(image, &c, n, &before, &after, counts, &wrong))
            n++;
        if (wrong)
            fprintf(stderr, "%s, %s, malloc %d: %s\n", s->kind.name,
                    sample_command_name(s, command), (int)n, wrong);
        outcome_clear(&before);
        outcome_clear(&after);
    }
    qc_file_unref(mem_file(done));
    qc_file_unref(mem_file(image));
    return !wrong;
}

static bool wanted(const Sample *s, char **names)
{
    return *names ? g_strv_contains((const char *const *)names, s->kind.name) : !sample_is_big(s);
}

int main(int argc, char **argv)
{
    g_autofree char *dir = g_dir_make_tmp("starve.XXXXXX", NULL);
    g_autofree char *base = g_build_filename(dir, "base.raw", NULL);
    QcGate *gate = samples_make_base(dir);
    Counts n = {0};
    bool ok = true;
    (void)argc;
    for (size_t i = 0; i < n_samples && ok; i++)
        for (unsigned c = 0; wanted(&samples[i], argv + 1) && c < sample_n_commands(&samples[i]);
             c++)
            ok = ok && starve(&samples[i], gate, c, &n);
    printf("%lu mallocs failed, each in a process of its own: %lu commands succeeded, %lu said "
           "ENOMEM, %lu processes were ended by GLib; every image is before or after\n",
           n.failed, n.done, n.reported, n.ended);
    qc_gate_unref(gate);
    g_unlink(base);
    g_rmdir(dir);
    if (ok && n.reported < 500) {
        fprintf(stderr, "that is too few\n");
        ok = false;
    }
    return ok ? 0 : 1;
}
