/*
 * seccomp.c - which system calls the process may make.
 *
 * Listed is what serving files takes. To every other call the kernel answers ENOSYS, upon which
 * libc falls back on something older, or gives up. So the process can make no socket, no other
 * process and no mount, run no program, and (but for s390x) map no file so that it could be
 * executed.
 */
#include "sandbox.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* On s390x clone has its flags in the second argument, and mmap all of its arguments in memory. */
#ifdef __s390__
#define CLONE_FLAGS_AT        1
#define MMAP_SHOWS_PROTECTION false
#else
#define CLONE_FLAGS_AT        0
#define MMAP_SHOWS_PROTECTION true
#endif

static const char *const allowed[] = {
    /* files */
    "openat2",
    "close",
    "read",
    "write",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "lseek",
    "_llseek",
    "fstat",
    "fstat64",
    "stat",
    "lstat",
    "newfstatat",
    "fstatat64",
    "statx",
    "fstatfs",
    "fstatfs64",
    "statfs",
    "getxattr",
    "readlink",
    "readlinkat",
    "getdents",
    "getdents64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "ftruncate64",
    "fadvise64",
    "fadvise64_64",
    "access",
    "faccessat",
    "faccessat2",
    /* what else is open: /dev/fuse, which libfuse splices to only where it is asked to, and the
     * keeper's socket */
    "sendmsg",
    "recvmsg",
    "poll",
    "ppoll",
    "ppoll_time64",
    "eventfd2",
    /* memory and threads */
    "brk",
    "munmap",
    "mincore",
    "mremap",
    "madvise",
    "futex",
    "futex_time64",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "membarrier",
    "arch_prctl",
    "set_tid_address",
    "gettid",
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "getcpu",
    "exit",
    "exit_group",
    "prctl",
    "getrlimit",
    "ugetrlimit",
    "getrusage",
    "sysinfo",
    "uname",
    /* signals and time */
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigreturn",
    "rt_sigpending",
    "rt_sigtimedwait",
    "sigaltstack",
    "restart_syscall",
    "clock_gettime",
    "clock_gettime64",
    "clock_getres",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "nanosleep",
    "gettimeofday",
    "time",
    "getrandom",
};

/* A call that not every machine has is left out where it does not exist. */
static int allow(scmp_filter_ctx filter, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);

    return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* name is allowed where the bits of mask in its argument have this value. */
static int allow_if(scmp_filter_ctx filter, const char *name, unsigned argument, scmp_datum_t mask,
                    scmp_datum_t value)
{
    int number = seccomp_syscall_resolve_name(name);

    if (number == __NR_SCMP_ERROR)
        return 0;
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
                            SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, mask, value));
}

/* name is allowed where its argument is one of these. */
static int allow_values(scmp_filter_ctx filter, const char *name, unsigned argument,
                        const scmp_datum_t *values, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++)
        r = allow_if(filter, name, argument, UINT32_MAX, values[i]);
    return r;
}

/* Which signal a file may cause: one that is ignored, of a lease by which the engine asks for
 * writers. */
static int allow_signal(scmp_filter_ctx filter, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);

    if (number == __NR_SCMP_ERROR)
        return 0;
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 2,
                            SCMP_CMP(1, SCMP_CMP_MASKED_EQ, UINT32_MAX, F_SETSIG),
                            SCMP_CMP(2, SCMP_CMP_MASKED_EQ, UINT32_MAX, SIGURG));
}

/*
 * Opening without O_TRUNC and without the access mode 3, which Landlock before its version 3
 * does not see. (What openat2 is asked for lies in memory, where no filter looks.)
 */
static int allow_opening(scmp_filter_ctx filter, const char *name, unsigned flags)
{
    static const scmp_datum_t modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    int r = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(modes) && r == 0; i++)
        r = allow_if(filter, name, flags, O_ACCMODE | O_TRUNC, modes[i]);
    return r;
}

/*
 * Allow, of calls that do many things, those that serving takes; of calls to a process, those to
 * this one.
 */
static int allow_partly(scmp_filter_ctx filter)
{
    static const scmp_datum_t ioctls[] = {BLKGETSIZE64, FUSE_DEV_IOC_CLONE, TCGETS};
    static const scmp_datum_t fcntls[] = {F_GETFD,     F_SETFD,     F_GETFL,   F_DUPFD_CLOEXEC,
                                          F_OFD_GETLK, F_OFD_SETLK, F_SETLEASE};
    static const char *const fcntl_names[] = {"fcntl", "fcntl64"};
    int r = allow_values(filter, "ioctl", 1, ioctls, G_N_ELEMENTS(ioctls));

    for (size_t i = 0; i < G_N_ELEMENTS(fcntl_names) && r == 0; i++) {
        r = allow_values(filter, fcntl_names[i], 1, fcntls, G_N_ELEMENTS(fcntls));
        if (r == 0)
            r = allow_signal(filter, fcntl_names[i]);
    }
    if (r == 0)
        r = allow_if(filter, "tgkill", 0, UINT32_MAX, (scmp_datum_t)getpid());
    if (r == 0)
        r = allow_if(filter, "prlimit64", 0, UINT32_MAX, 0);
    if (r == 0)
        r = allow_if(filter, "sched_setaffinity", 0, UINT32_MAX, 0);
    if (r == 0) /* a thread is no process */
        r = allow_if(filter, "clone", CLONE_FLAGS_AT, CLONE_THREAD, CLONE_THREAD);
    return r;
}

/* Using the rings that are there, which are restricted (fetcher.c), and making no others. */
static int allow_rings(scmp_filter_ctx filter)
{
    int r = allow(filter, "io_uring_enter");

    if (r == 0)
        r = allow_if(filter, "io_uring_register", 1, UINT32_MAX, IORING_REGISTER_ENABLE_RINGS);
    return r;
}

/* No memory that can be executed, where a filter sees what is asked for. */
static int allow_mapping(scmp_filter_ctx filter)
{
    int r =
        MMAP_SHOWS_PROTECTION ? allow_if(filter, "mmap", 2, PROT_EXEC, 0) : allow(filter, "mmap");

    return r == 0 ? allow_if(filter, "mprotect", 2, PROT_EXEC, 0) : r;
}

static int fill(scmp_filter_ctx filter, const SandboxPolicy *policy)
{
    int r = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(allowed) && r == 0; i++)
        r = allow(filter, allowed[i]);
    if (r == 0)
        r = allow_mapping(filter);
    if (r == 0 && policy->io_uring)
        r = allow_rings(filter);
    if (r == 0)
        r = allow_opening(filter, "open", 1);
    if (r == 0)
        r = allow_opening(filter, "openat", 2);
    return r == 0 ? allow_partly(filter) : r;
}

int sandbox_seccomp(const SandboxPolicy *policy)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));

    if (!filter)
        return -ENOMEM;
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree; where it can */
    int r = fill(filter, policy);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}
