/*
 * seccomp: which system calls there are. Listed is what serving files takes; of everything
 * else the kernel says ENOSYS, with which libc falls back on something older, or gives up. So
 * there is no socket, no process, no program, no mount, no file that could be executed.
 */
#include "sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>

static const char *const allowed[] = {
    /* files */
    "open",
    "openat",
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
    "readlink",
    "readlinkat",
    "getdents",
    "getdents64",
    "fcntl",
    "fcntl64",
    "ioctl",
    "fsync",
    "fdatasync",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "fadvise64",
    "fadvise64_64",
    "access",
    "faccessat",
    "faccessat2",
    "dup",
    "dup2",
    "dup3",
    "getcwd",
    "umask",
    /* what is open: /dev/fuse, the pipes of splice, the keeper's socket */
    "splice",
    "vmsplice",
    "tee",
    "pipe",
    "pipe2",
    "sendmsg",
    "recvmsg",
    "sendto",
    "recvfrom",
    "shutdown",
    "poll",
    "ppoll",
    "ppoll_time64",
    "eventfd2",
    /* memory and threads */
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "mincore",
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
    "tgkill",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_setscheduler",
    "sched_getattr",
    "sched_setattr",
    "getcpu",
    "exit",
    "exit_group",
    "prctl",
    "prlimit64",
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

static int fill(scmp_filter_ctx filter)
{
    int r = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(allowed) && r == 0; i++)
        r = allow(filter, allowed[i]);
    /* Memory that can be executed; and processes, which a thread is not. */
    if (r == 0)
        r = allow_if(filter, "mmap", 2, PROT_EXEC, 0);
    if (r == 0)
        r = allow_if(filter, "mmap2", 2, PROT_EXEC, 0);
    if (r == 0)
        r = allow_if(filter, "mprotect", 2, PROT_EXEC, 0);
    if (r == 0)
        r = allow_if(filter, "clone", 0, CLONE_THREAD, CLONE_THREAD);
    return r;
}

int sandbox_seccomp(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));

    if (!filter)
        return -ENOMEM;
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree; where it can */
    int r = fill(filter);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}
