/*
 * sandbox.h - what the process that parses images gives up once the tree is mounted.
 *
 * After sandbox_enter() it can read and write the files of the store, read /proc, and serve
 * requests on what it has open; it cannot open any other file, create, rename or remove one,
 * make a socket or a process, run a program, gain privileges, or leave a core dump. Where the
 * kernel lacks one of the means, the others are used.
 */
#ifndef SNAPTREE_SANDBOX_H
#define SNAPTREE_SANDBOX_H

#include <glib.h>
#include <stdbool.h>

typedef struct SandboxPolicy {
    int store;          /* descriptor of the directory */
    bool may_write;     /* to its files */
    bool read_anywhere; /* backing files may lie outside the store */
    bool fuse_device;   /* /dev/fuse will be opened again */
    bool io_uring;      /* rings that are there may be used */
} SandboxPolicy;

/*
 * Confine the process, for good. Before it has threads. Returns what is in force and what is
 * not, in words, for the log (g_free).
 */
char *sandbox_enter(const SandboxPolicy *policy);

/* The parts of it; 0, or -errno (-ENOSYS, -EOPNOTSUPP: the kernel does not have it). */
int sandbox_landlock(const SandboxPolicy *policy, int *ret_abi);
int sandbox_seccomp(const SandboxPolicy *policy);

#endif
