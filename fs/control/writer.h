/*
 * writer.h - the thread that has written to a control file and waits for the end of its commands:
 * what /proc says of it.
 */
#ifndef SNAPTREE_WRITER_H
#define SNAPTREE_WRITER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Whether one of the signals that the thread has pending, and does not block, asks it to stop: INT,
 * TERM, HUP, QUIT, KILL, PIPE. Others, as when a window changes its size, do not. otherwise: the
 * answer when that cannot be told.
 */
bool writer_asked_to_stop(pid_t thread, bool otherwise);

/*
 * Whether the thread is ending, or has ended: it can without waiting for asynchronous writes. seen:
 * set once the thread was found alive; of one that never was, as it is not of our namespace (0), or
 * hidden from us, nothing is known.
 */
bool writer_has_ended(pid_t thread, bool *seen);

#endif
