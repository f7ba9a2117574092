/*
 * kernel.h - the kernel's side of a mount, without a kernel: it sends requests, and holds each
 * answer against what the kernel would take. A request is answered once, and only if it is to be;
 * its answer is of the length that such a request has, and its error one that may be told.
 */
#ifndef TESTS_KERNEL_H
#define TESTS_KERNEL_H

#include "fs.h"

#include <linux/fuse.h>

typedef struct Kernel Kernel;

/* One request. What is behind the header of the answer is there once it was waited for. */
typedef struct Call {
    uint64_t unique, ino;
    uint32_t opcode;
    size_t room; /* READ, READDIR, LISTXATTR: how much was asked for */
    bool lost;   /* nobody waits for the answer, as when the connection is cut: refused, -ENOENT */
    bool answered;
    int error;
    GByteArray *answer;
} Call;

/* Who asks. */
typedef struct Asker {
    uint32_t uid, pid;
} Asker;

/* A mount of the gate's store. threads: that handle requests; 0: the one that sends them. */
Kernel *kernel_new(QcGate *gate, const Options *options, unsigned threads);
void kernel_free(Kernel *kernel); /* nothing may be under way */

Nodes *kernel_nodes(Kernel *kernel); /* what the daemon knows, borrowed */

/* Send a request with an answer (kernel_end). */
Call *kernel_call(Kernel *kernel, const Asker *asker, uint32_t opcode, uint64_t ino,
                  const void *args, size_t len, size_t room, bool lost);
/* Send one without an answer: FORGET, BATCH_FORGET, INTERRUPT. */
void kernel_tell(Kernel *kernel, uint32_t opcode, uint64_t ino, uint64_t unique, const void *args,
                 size_t len);
/* Have all that was sent handled, and what is sent from now on by the thread that sends it. */
void kernel_join(Kernel *kernel);
/* Wait for the answer. */
void kernel_wait(Kernel *kernel, Call *call);
void kernel_end(Kernel *kernel, Call *call);

#endif
