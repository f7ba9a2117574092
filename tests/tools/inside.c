/*
 * inside - have another process make a system call, and tell what came of it: what a confined
 * process can do is only seen from inside.
 *
 *   inside PID open PATH FLAGS
 *   inside PID socket | fork | ring | dumpable
 *
 * Prints 0 or the errno; for dumpable what prctl(PR_GET_DUMPABLE) says. The process is stopped
 * while it waits in a system call, as the first thread of a daemon does: so the instruction for one
 * lies right before where it is. It makes one step of its own with the registers of the other call,
 * and afterwards goes on waiting. Only general registers are touched: debuggers that write back all
 * that a processor has fail on those that have more than they know.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "which registers a system call has is known for x86-64 only"
#endif

enum {
    RED_ZONE = 128, /* below the stack pointer, in use */
    ROOM = 4096,    /* below that, for a path */
    SYSCALL_BYTES = 2,
};

typedef struct Call {
    long number;
    long args[4];
    const char *path; /* of which the process gets a copy; its address is args[1] */
    bool is_value;    /* the result is not a descriptor or the like */
} Call;

static void die(const char *what)
{
    fprintf(stderr, "inside: %s: %s\n", what, strerror(errno));
    exit(2);
}

static bool parse(int argc, char **argv, Call *ret)
{
    const char *what = argc > 2 ? argv[2] : "";

    if (strcmp(what, "open") == 0 && argc == 5)
        *ret = (Call){SYS_openat, {AT_FDCWD, 0, atoi(argv[4]), 0600}, argv[3], false};
    else if (strcmp(what, "socket") == 0 && argc == 3)
        *ret = (Call){SYS_socket, {AF_INET, SOCK_STREAM}, NULL, false};
    else if (strcmp(what, "fork") == 0 && argc == 3)
        *ret = (Call){SYS_clone, {SIGCHLD}, NULL, false};
    else if (strcmp(what, "ring") == 0 && argc == 3)
        *ret = (Call){SYS_io_uring_enter, {-1}, NULL, false};
    else if (strcmp(what, "dumpable") == 0 && argc == 3)
        *ret = (Call){SYS_prctl, {PR_GET_DUMPABLE}, NULL, true};
    else
        return false;
    return true;
}

static void wait_for_stop(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
        die("the process did not stop");
}

/* The instruction before the place where the process waits. */
static unsigned long find_instruction(pid_t pid, const struct user_regs_struct *regs)
{
    unsigned long at = regs->rip - SYSCALL_BYTES;

    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);
    if (errno || (word & 0xffff) != 0x050f) {
        errno = EBUSY;
        die("it does not wait in a system call");
    }
    return at;
}

static unsigned long lend_path(pid_t pid, unsigned long stack, const char *path)
{
    unsigned long at = (stack - RED_ZONE - ROOM) & ~(sizeof(long) - 1);
    char room[ROOM] = {0};

    if (strlen(path) >= sizeof(room)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(room, path, strlen(path));
    for (size_t i = 0; i <= strlen(path); i += sizeof(long)) {
        long word;

        memcpy(&word, room + i, sizeof(word));
        if (ptrace(PTRACE_POKEDATA, pid, at + i, word) < 0)
            die("its stack");
    }
    return at;
}

static long make(pid_t pid, const Call *call)
{
    struct user_regs_struct was, regs;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &was) < 0)
        die("its registers");
    regs = was;
    regs.rip = find_instruction(pid, &was);
    regs.orig_rax = (unsigned long)-1; /* what it waits in is not begun anew yet */
    regs.rax = (unsigned long)call->number;
    regs.rdi = (unsigned long)call->args[0];
    regs.rsi = call->path ? lend_path(pid, was.rsp, call->path) : (unsigned long)call->args[1];
    regs.rdx = (unsigned long)call->args[2];
    regs.r10 = (unsigned long)call->args[3];
    if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) < 0 ||
        ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
        die("one step");
    wait_for_stop(pid);
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0 || ptrace(PTRACE_SETREGS, pid, NULL, &was) < 0)
        die("its registers");
    return (long)regs.rax;
}

int main(int argc, char **argv)
{
    Call call;
    pid_t pid = argc > 1 ? (pid_t)atol(argv[1]) : 0;

    if (pid <= 0 || !parse(argc, argv, &call)) {
        fprintf(stderr, "usage: inside PID open PATH FLAGS | socket | fork | ring | dumpable\n");
        return 2;
    }
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0)
        die("the process");
    wait_for_stop(pid);
    long result = make(pid, &call);
    if (ptrace(PTRACE_DETACH, pid, NULL, NULL) < 0)
        die("letting go");
    printf("%ld\n", result < 0 ? -result : call.is_value ? result : 0);
    return 0;
}
