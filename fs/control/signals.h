/* signals.h - those that end the daemon, and those that its callers get. */
#ifndef SNAPTREE_SIGNALS_H
#define SNAPTREE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* TERM, INT and HUP: the daemon finishes what it does, unmounts, and ends. */
void signals_that_end(sigset_t *ret);
/* Make them wait (block them), or let them come. Of the calling thread. */
void signals_hold(bool hold);

/*
 * Whether one of the signals that a thread has pending, and does not block, asks it to stop: INT,
 * TERM, HUP, QUIT, KILL, PIPE. Others, as when a window changes its size, do not. otherwise: the
 * answer when that cannot be told.
 */
bool signals_ask_to_stop(pid_t thread, bool otherwise);

/*
 * Whether a thread is ending, or has ended, as one can without waiting for what it has begun. seen:
 * set once it was found alive; of one that never was, as it is not of our namespace (0), or hidden
 * from us, nothing is known.
 */
bool signals_has_ended(pid_t thread, bool *seen);

#endif
