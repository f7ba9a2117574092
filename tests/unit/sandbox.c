/* What a confined process can still do, each tried from inside, and each also outside first. */
#include "sandbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *store, *inside, *outside, *new_file;

static void make_files(void)
{
    store = g_dir_make_tmp("snaptree-sandbox.XXXXXX", NULL);
    inside = g_build_filename(store, "inside", NULL);
    new_file = g_build_filename(store, "new", NULL);
    outside = g_strconcat(store, ".outside", NULL);
    g_file_set_contents(inside, "in", 2, NULL);
    g_file_set_contents(outside, "out", 3, NULL);
}

static void remove_files(void)
{
    g_unlink(inside);
    g_unlink(outside);
    g_unlink(new_file);
    g_rmdir(store);
}

/* The errno of opening a file, 0 when it opens. */
static int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    int err = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    return err;
}

/* The same in a way into which the filter of system calls cannot look. */
static int try_to_empty(const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_TRUNC};
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    int err = fd < 0 ? errno : 0;

    if (fd >= 0)
        close((int)fd);
    return err;
}

static int try_socket(int domain)
{
    int fd = socket(domain, SOCK_STREAM, 0);
    int err = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    return err;
}

static int try_fork(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, NULL, 0);
    return child < 0 ? errno : 0;
}

/* The errno of each way to have the kernel move bytes between descriptors, if it is the same. */
static int try_pipes(void)
{
    int fds[2] = {-1, -1}, err = pipe(fds) < 0 ? errno : 0;

    if (err == 0) {
        close(fds[0]);
        close(fds[1]);
    }
    if (err == ENOSYS && (splice(-1, NULL, -1, NULL, 1, 0) == 0 || errno != ENOSYS ||
                          vmsplice(-1, NULL, 0, 0) == 0 || errno != ENOSYS ||
                          tee(-1, -1, 1, 0) == 0 || errno != ENOSYS))
        return -1;
    return err;
}

/* Of a socket that is none: a bad descriptor, unless that cannot be asked of any. */
static int try_send(void)
{
    return sendto(-1, "", 1, 0, NULL, 0) < 0 ? errno : 0;
}

/* Of memory that is no ring's: a bad address, unless rings cannot be made at all. */
static int try_ring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL) < 0 ? errno : 0;
}

/* Of a ring that is none: a bad descriptor, unless that cannot be asked of any. */
static int try_ring_use(void)
{
    return syscall(SYS_io_uring_enter, 1 << 30, 0, 0, 0, NULL, 0) < 0 ? errno : 0;
}

static int try_ring_change(unsigned what)
{
    return syscall(SYS_io_uring_register, 1 << 30, what, NULL, 0) < 0 ? errno : 0;
}

/* On s390x the arguments of mmap lie in memory, and what registers hold must not matter. */
static int try_code(void)
{
#ifdef __s390__
    unsigned long args[] = {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0};
    void *code = (void *)syscall(SYS_mmap, args, 0, PROT_EXEC);
#else
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#endif
    int err = code == MAP_FAILED ? errno : 0;

    if (code != MAP_FAILED)
        munmap(code, 4096);
    return err;
}

/*
 * The same, as programs can ask for it that do not ask the C library. What the kernel takes for the
 * flags is not the same argument everywhere, so the other one has all bits that threads are made
 * with: it would be the stack of a process that ends before it uses it.
 */
static int try_raw_fork(void)
{
#ifdef __s390__
    long child = syscall(SYS_clone, (unsigned long)CLONE_THREAD, SIGCHLD, NULL, NULL, 0UL);
#else
    long child = syscall(SYS_clone, SIGCHLD, (unsigned long)CLONE_THREAD, NULL, NULL, 0UL);
#endif
    return child < 0 ? errno : 0;
}

static gpointer do_nothing(gpointer data)
{
    return data;
}

/* Threads whose stacks lie everywhere. */
static bool can_make_threads(void)
{
    GThread *threads[40];
    bool all = true;

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        threads[i] = g_thread_try_new("test", do_nothing, NULL, NULL);
        all = all && threads[i];
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        if (threads[i])
            g_thread_join(threads[i]);
    }
    return all;
}

/* The errno of something done to our parent, or to a terminal. */
static int try_on_others(unsigned what)
{
    struct rlimit limit;
    int r = 0;

    if (what == 0)
        r = tgkill(getppid(), getppid(), 0);
    else if (what == 1)
        r = prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit);
    else if (what == 2)
        r = fcntl(0, F_SETOWN, getppid());
    else if (what == 3)
        r = sched_setaffinity(getppid(), sizeof(cpu_set_t), &(cpu_set_t){{1}});
    else if (what == 4)
        r = ioctl(0, TIOCSTI, "x");
    else
        r = fcntl(0, F_SETSIG, SIGIO);
    return r < 0 ? errno : 0;
}

/* The errno of saying where one of our own threads may run. */
static int try_to_move(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0 || sched_setaffinity(0, sizeof(set), &set) < 0)
        return errno;
    return 0;
}

static bool kernel_has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

#ifdef __s390__
#define CODE_IS_SEEN false
#else
#define CODE_IS_SEEN true
#endif

static int fuse_device; /* the errno of opening it outside */

/* The first thing that is not as it must be, as an exit status; 0 when all is. */
static int judge(const SandboxPolicy *policy, const char *in_force, bool has_landlock)
{
    bool landlock = !strstr(in_force, "NOT Landlock");
    bool truncation = landlock && !strstr(in_force, "files can be truncated");
    struct {
        int got, wanted;
    } results[] = {
        {strstr(in_force, "NOT seccomp") != NULL, 0},
        {landlock, has_landlock},
        {try_open(inside, O_RDONLY), 0},
        {try_open(inside, O_RDWR), landlock && !policy->may_write ? EACCES : 0},
        {try_open(outside, O_RDONLY), landlock && !policy->read_anywhere ? EACCES : 0},
        {try_open(outside, O_RDWR), landlock ? EACCES : 0},
        {try_open(new_file, O_RDWR | O_CREAT), landlock ? EACCES : 0},
        {try_to_empty(inside), truncation && !policy->may_write ? EACCES : 0},
        {try_to_empty(outside), truncation || (landlock && !policy->read_anywhere) ? EACCES : 0},
        {try_open("/dev/fuse", O_RDWR), landlock && !fuse_device ? EACCES : fuse_device},
        {try_open("/proc/self/status", O_RDONLY), 0},
        {unlink(inside) < 0 ? errno : 0, ENOSYS},
        {try_socket(AF_INET), ENOSYS},
        {try_socket(AF_UNIX), ENOSYS},
        {try_fork(), ENOSYS},
        {try_raw_fork(), ENOSYS},
        {can_make_threads(), true},
        {try_pipes(), ENOSYS},
        {try_send(), ENOSYS},
        {fcntl(0, F_SETPIPE_SZ, 4096) < 0 ? errno : 0, ENOSYS},
        {try_open(inside, O_RDONLY | O_TRUNC), ENOSYS},
        {try_open(inside, O_ACCMODE), ENOSYS},
        {try_to_move(), 0},
        {try_on_others(0), ENOSYS},
        {try_on_others(1), ENOSYS},
        {try_on_others(2), ENOSYS},
        {try_on_others(3), ENOSYS},
        {try_on_others(4), ENOSYS},
        {try_on_others(5), ENOSYS},
        {fcntl(0, F_SETSIG, SIGURG) < 0 ? errno : 0, 0},
        {execl("/bin/false", "false", NULL) < 0 ? errno : 0, ENOSYS},
        {try_code(), CODE_IS_SEEN ? ENOSYS : 0},
        {try_ring(), ENOSYS},
        {try_ring_use(), policy->io_uring ? EBADF : ENOSYS},
        {try_ring_change(IORING_REGISTER_ENABLE_RINGS), policy->io_uring ? EBADF : ENOSYS},
        {try_ring_change(IORING_REGISTER_FILES), ENOSYS},
        {prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1},
        {prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(results); i++) {
        if (results[i].got != results[i].wanted)
            return 1 + (int)i;
    }
    return 0;
}

/* Enter the sandbox in a process of its own, and judge it there. */
static void check_policy(bool may_write, bool read_anywhere, bool io_uring)
{
    SandboxPolicy policy = {
        .store = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC),
        .may_write = may_write,
        .read_anywhere = read_anywhere,
        .io_uring = io_uring,
    };
    bool has_landlock = kernel_has_landlock();
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        g_autofree char *in_force = sandbox_enter(&policy);
        _exit(judge(&policy, in_force, has_landlock));
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "ended with %x", (unsigned)status);
    cr_assert_eq(WEXITSTATUS(status), 0, "result %d is wrong (write %d, anywhere %d, rings %d)",
                 WEXITSTATUS(status) - 1, may_write, read_anywhere, io_uring);
    close(policy.store);
}

#ifdef SNAPTREE_SANITIZED /* their runtimes need what the sandbox takes away */
#define CANNOT_RUN true
#else
#define CANNOT_RUN false
#endif

Test(sandbox, only_what_serving_needs, .init = make_files, .fini = remove_files,
     .disabled = CANNOT_RUN)
{
    /* Without it all of that works, so that the refusals mean something. */
    cr_assert_eq(try_open(outside, O_RDWR), 0);
    cr_assert_eq(try_socket(AF_UNIX), 0);
    cr_assert_eq(try_fork(), 0);
    cr_assert_eq(try_pipes(), 0);
    cr_assert_eq(try_send(), EBADF);
    cr_assert_eq(try_on_others(0), 0);
    cr_assert_eq(try_on_others(1), 0);
    cr_assert_eq(try_code(), 0);
    fuse_device = try_open("/dev/fuse", O_RDWR);

    check_policy(true, false, false);
    check_policy(false, false, false);
    check_policy(true, true, false);
    if (try_ring() != ENOSYS) /* the kernel has it */
        check_policy(true, false, true);
}
