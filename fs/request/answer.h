/*
 * answer.h - errors as the kernel takes them.
 *
 * Two kinds of errno mean something else in an answer than to a program. ENOSYS says that the
 * daemon does not know such requests: after it the kernel opens no file any more, and reads without
 * a handle. And numbers from 512 on are the kernel's own, which some file systems (NFS) let out: it
 * does not accept an answer with one, and whoever waits for the answer would wait for ever.
 */
#ifndef SNAPTREE_ANSWER_H
#define SNAPTREE_ANSWER_H

#include <errno.h>

enum {
    ANSWER_FIRST_REFUSED = 512,
};

/* 0 or -errno, from wherever it comes, as it may be answered. */
static inline int answer_error(int r)
{
    return r == -ENOSYS || r <= -ANSWER_FIRST_REFUSED ? -EIO : r;
}

#endif
