/* Two processes: what the keeper does for the worker, and what it refuses. */
#include "keeper.h"

#include "log.h"
#include "signals.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum {
    ALL_WELL = 42,
};

static char *store, *image;

static QcGate *make_store(QcBackingPolicy policy)
{
    QcGate *gate = NULL;

    store = g_dir_make_tmp("snaptree-keeper.XXXXXX", NULL);
    image = g_build_filename(store, "image", NULL);
    g_file_set_contents(image, "image", 5, NULL);
    cr_assert_eq(qc_gate_new(store, policy, &gate, NULL), 0);
    return gate;
}

static void remove_store(void)
{
    g_unlink(image);
    g_rmdir(store);
}

/* A process that holds the image open until it is killed, with a lock on a byte that is not 0.
 */
static pid_t start_holder(unsigned locked)
{
    int ready[2];
    char byte;

    cr_assert_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(image, O_RDONLY);
        struct flock lock = {.l_type = F_RDLCK, .l_start = locked, .l_len = 1};
        bool held = fd >= 0 && (locked == 0 || fcntl(fd, F_OFD_SETLK, &lock) == 0);
        if (held && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

/* As the worker; the number of the first answer that is wrong, or ALL_WELL. */
static int ask_everything(Keeper *keeper, pid_t holder)
{
    struct stat st;
    QcFileStat nobodys = {.dev = 1, .ino = 1};

    if (stat(image, &st) < 0)
        return 1;
    QcFileStat held = {.dev = st.st_dev, .ino = st.st_ino};
    g_autofree char *found = keeper_find_holder(keeper, &held);
    g_autofree char *wanted = g_strdup_printf("(process %d)", (int)holder);
    if (!found || !strstr(found, wanted))
        return 2;
    if (keeper_find_holder(keeper, &nobodys))
        return 3;
    /* Of a device that nobody has. (Whether it may look at all others is not for us to say.) */
    g_autofree char *user = NULL;
    int r = keeper_find_user(keeper, UINT64_MAX, true, g_get_monotonic_time(), &user);
    if ((r != 0 && r != -EACCES) || user)
        return 14;
    /* Only block devices, and only those that the store holds. */
    if (keeper_open_device(keeper, "image", false) != -EACCES)
        return 4;
    if (keeper_open_device(keeper, "nothing", false) != -ENOENT)
        return 5;
    if (keeper_open_device(keeper, "/dev/null", false) != -EXDEV)
        return 6;
    if (keeper_open_device(keeper, "../../dev/null", false) != -EXDEV)
        return 7;
    if (keeper_open_device(keeper, "image", true) != -EROFS)
        return 8;
    /* Only what is meant, and lies in the store; with that it asks a kernel that is not there. */
    if (keeper_begin_passthrough(keeper, "image", &nobodys) != -ESTALE)
        return 9;
    if (keeper_begin_passthrough(keeper, "nothing", &held) != -ENOENT)
        return 10;
    if (keeper_begin_passthrough(keeper, "/dev/null", &held) != -EXDEV)
        return 11;
    if (keeper_begin_passthrough(keeper, "../../dev/null", &held) != -EXDEV)
        return 12;
    int fd = open(image, O_RDONLY | O_DIRECT | O_CLOEXEC); /* not every file system has this */
    if (keeper_begin_passthrough(keeper, "image", &held) != (fd < 0 ? -EINVAL : -EBADF))
        return 13;
    return ALL_WELL;
}

/* What is said when these are found. */
static char *expected(const pid_t *pids, unsigned n)
{
    g_autofree char *comm = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    g_file_get_contents("/proc/self/comm", &comm, NULL, NULL);
    g_strchomp(comm);
    for (unsigned i = 0; i < n; i++)
        g_string_append_printf(text, "%s%s (process %d)", i ? ", " : "", comm, (int)pids[i]);
    g_string_append(text, n == 1 ? " has" : " have");
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Who only reads, under QEMU's lock or none, is in nobody's way. */
Test(keeper, names_who_holds_a_lock, .timeout = 60)
{
    enum { OPEN = 6, ALL_NAMED = 4 };
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    pid_t holders[OPEN + 2];
    struct stat st;

    cr_assert_eq(stat(image, &st), 0);
    const QcFileStat file = {.dev = st.st_dev, .ino = st.st_ino};
    for (unsigned i = 0; i < OPEN; i++) {
        holders[i] = start_holder(i == 0 ? 100 : 0);
        if (i + 1 != ALL_NAMED)
            continue;
        g_autofree char *all = keeper_find_holder(NULL, &file);
        g_autofree char *all_wanted = expected(holders, ALL_NAMED);
        cr_expect_str_eq(all, all_wanted);
    }
    g_autofree char *open = keeper_find_holder(NULL, &file);
    cr_expect_not_null(open);
    cr_expect_not_null(strstr(open, "), others have"), "%s", open);
    holders[OPEN] = start_holder(201);
    g_autofree char *one = keeper_find_holder(NULL, &file);
    g_autofree char *one_wanted = expected(holders + OPEN, 1);
    cr_expect_str_eq(one, one_wanted);
    holders[OPEN + 1] = start_holder(101);
    g_autofree char *two = keeper_find_holder(NULL, &file);
    g_autofree char *two_wanted = expected(holders + OPEN, 2);
    cr_expect_str_eq(two, two_wanted);
    for (unsigned i = 0; i < OPEN + 2; i++) {
        kill(holders[i], SIGKILL);
        waitpid(holders[i], NULL, 0);
    }
    remove_store();
}

/* Whatever a process calls itself. */
Test(keeper, names_have_one_line, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    struct stat st;

    cr_assert_eq(stat(image, &st), 0);
    const QcFileStat file = {.dev = st.st_dev, .ino = st.st_ino};
    prctl(PR_SET_NAME, "qemu\n\x1b[2J\xc2\x9b");
    pid_t holder = start_holder(0);
    g_autofree char *found = keeper_find_holder(NULL, &file);
    g_autofree char *wanted =
        g_strdup_printf("qemu\\x0a\\x1b[2J\\xc2\\x9b (process %d) has", (int)holder);
    cr_expect_str_eq(found, wanted);
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    remove_store();
}

Test(keeper, answers_and_refuses, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    Keeper *keeper;
    int status = 0;
    pid_t holder = start_holder(0);

    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper)
        _exit(ask_everything(keeper, holder));
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    remove_store();
    cr_assert_eq(status, ALL_WELL, "answer %d", status);
}

/* Half of the path of a device is the path of another. */
Test(keeper, takes_no_path_that_is_too_long, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    g_autoptr(GString) path = g_string_new(NULL);
    Keeper *keeper;
    int status = 0;

    while (path->len < PATH_MAX)
        g_string_append(path, "./");
    g_string_append(path, "image");
    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        bool well = keeper_open_device(keeper, path->str, false) == -ENAMETOOLONG &&
                    keeper_begin_passthrough(keeper, path->str, &(QcFileStat){0}) == -ENAMETOOLONG;
        _exit(well ? ALL_WELL : 1);
    }
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

static gpointer ask_for_nothing(gpointer keeper)
{
    for (unsigned i = 0; i < 1000; i++)
        if (keeper_open_device(keeper, "nothing", false) != -ENOENT)
            return keeper;
    return NULL;
}

/* As the worker: whether each of two threads gets the answers to what it has asked. */
static bool answers_are_ones_own(Keeper *keeper)
{
    GThread *other = g_thread_new("other", ask_for_nothing, keeper);
    bool well = true;

    for (unsigned i = 0; i < 1000; i++)
        well &= keeper_open_device(keeper, "image", false) == -EACCES;
    return !g_thread_join(other) && well;
}

Test(keeper, gives_each_thread_its_answers, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    Keeper *keeper;
    int status = 0;

    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper)
        _exit(answers_are_ones_own(keeper) ? ALL_WELL : 1);
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

/* What the kernel was not told of, or knows nothing of, is none of the files that it may be told.
 */
Test(keeper, counts_what_is_passed_through, .timeout = 60)
{
    enum { MORE_THAN_MAY_BE = 5000 };
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    Keeper *keeper;
    int status = 0;

    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        bool well = true;

        keeper_end_passthrough(keeper, 1);
        for (unsigned i = 0; i < MORE_THAN_MAY_BE; i++)
            well &= keeper_begin_passthrough(keeper, "nothing", &(QcFileStat){0}) == -ENOENT;
        _exit(well ? ALL_WELL : 1);
    }
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

/* What lies outside the store is never opened for writing, whatever may be read. */
Test(keeper, outside_is_for_reading, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_ANY);
    Keeper *keeper;
    int status = 0;

    cr_assert_eq(keeper_split(gate, true, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        bool well = keeper_open_device(keeper, "/nothing", false) == -ENOENT &&
                    keeper_open_device(keeper, "/nothing", true) == -EACCES &&
                    keeper_open_device(keeper, "image", true) == -EACCES &&
                    keeper_begin_passthrough(keeper, "image", &(QcFileStat){0}) == -EXDEV;
        _exit(well ? ALL_WELL : 1);
    }
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

Test(keeper, hands_signals_on, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    pid_t parent = getpid();
    Keeper *keeper;
    int status = 0;

    signals_hold(true);
    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        sigset_t hup;

        sigemptyset(&hup);
        sigaddset(&hup, SIGHUP);
        kill(parent, SIGHUP);
        _exit(sigwaitinfo(&hup, NULL));
    }
    remove_store();
    cr_assert_eq(status, SIGHUP);
}

/* As the worker: whether only the second of two signals to the keeper is handed on. */
static bool only_term_comes(pid_t keeper)
{
    sigset_t both, term, pending;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    both = term;
    sigaddset(&both, SIGHUP);
    sigprocmask(SIG_BLOCK, &both, NULL); /* so that an ignored one is seen as well */
    kill(keeper, SIGHUP);
    kill(keeper, SIGTERM);
    return sigwaitinfo(&term, NULL) == SIGTERM && sigpending(&pending) == 0 &&
           !sigismember(&pending, SIGHUP);
}

/* As nohup(1) and the background jobs of scripts have it. */
Test(keeper, hands_no_ignored_signal_on, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    pid_t parent = getpid();
    Keeper *keeper;
    int status = 0;

    signal(SIGHUP, SIG_IGN);
    signals_hold(true);
    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper)
        _exit(only_term_comes(parent) ? ALL_WELL : 1);
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

static bool let_go(void *pipe)
{
    cr_assert_eq(write(((int *)pipe)[1], "x", 1), 1);
    return true;
}

/* As the worker, which hangs: until the tree is unmounted, however often it is told to end. */
static bool is_let_go(int pipe, pid_t keeper)
{
    struct pollfd polled = {pipe, POLLIN, 0};
    char byte;

    do
        kill(keeper, SIGTERM);
    while (poll(&polled, 1, 500) == 0);
    return read(pipe, &byte, 1) == 1;
}

/* The worker cannot end before its tree is unmounted; and is not killed. */
Test(keeper, unmounts_when_the_worker_does_not_end, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    pid_t parent = getpid();
    Keeper *keeper;
    int status = 0, ends[2], device = open("/dev/null", O_RDWR);

    cr_assert_eq(pipe(ends), 0);
    signals_hold(true);
    cr_assert_eq(keeper_split(gate, false, device, let_go, ends, &keeper, &status), 0);
    if (keeper)
        _exit(is_let_go(ends[0], parent) ? ALL_WELL : 1);
    remove_store();
    cr_assert_eq(status, ALL_WELL);
}

Test(keeper, outlives_a_worker_that_is_killed, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    Keeper *keeper;
    int status = 0;

    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper)
        raise(SIGKILL);
    remove_store();
    cr_assert_eq(status, 128 + SIGKILL);
}

/* The worker's end of the socket: the only one that it has. */
static int find_socket(void)
{
    int domain;
    socklen_t len = sizeof(domain);

    for (int fd = 3; fd < 256; fd++) {
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &domain, &len) == 0 && domain == SOCK_SEQPACKET)
            return fd;
    }
    return -1;
}

static void keep_line(void *data, int priority, const char *line)
{
    char **kept = data;

    if (priority == LOG_ERR && !*kept) /* the first: why it is killed, and not that it is */
        *kept = g_strdup(line);
}

/* Whoever has taken the worker over may send what he likes; and is not waited for. */
Test(keeper, ends_a_worker_that_breaks_the_protocol, .timeout = 60)
{
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    g_autofree char *said = NULL;
    Keeper *keeper;
    int status = 0;

    log_to_sink(keep_line, &said);
    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        if (send(find_socket(), "nonsense", 8, 0) == 8)
            pause();
        _exit(ALL_WELL);
    }
    remove_store();
    cr_assert_eq(status, 128 + SIGKILL);
    cr_assert(said && strstr(said, "is killed, as it cannot be understood: "), "%s", said);
}

/* Nor does the keeper wait for one that asks, and does not take the answers. */
Test(keeper, ends_a_worker_that_takes_no_answers, .timeout = 60)
{
    enum { USER = 7, SIZE = 16 + 32 + PATH_MAX }; /* of keeper.c: a question, and its length */
    g_autoptr(QcGate) gate = make_store(QC_BACKING_STORE);
    uint32_t question[SIZE / sizeof(uint32_t)] = {USER};
    g_autofree char *said = NULL;
    Keeper *keeper;
    int status = 0;

    log_to_sink(keep_line, &said);
    cr_assert_eq(keeper_split(gate, false, -1, NULL, NULL, &keeper, &status), 0);
    if (keeper) {
        int socket = find_socket();

        while (send(socket, question, sizeof(question), 0) == (ssize_t)sizeof(question))
            ;
        _exit(ALL_WELL);
    }
    remove_store();
    cr_assert_eq(status, 128 + SIGKILL);
    cr_assert(said && strstr(said, "is killed, as it cannot be answered: "), "%s", said);
}
