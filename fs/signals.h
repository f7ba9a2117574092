/* signals.h - what a process is being told while it waits for us. */
#ifndef SNAPTREE_SIGNALS_H
#define SNAPTREE_SIGNALS_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Whether one of the signals that a thread has pending asks it to stop: INT, TERM, HUP, QUIT, KILL,
 * PIPE. Others, as when a window changes its size, do not. True when that cannot be told.
 */
bool signals_ask_to_stop(pid_t thread);

#endif
