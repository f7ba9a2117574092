/* signals.h - those that end the daemon. */
#ifndef SNAPTREE_SIGNALS_H
#define SNAPTREE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

/*
 * TERM, INT, HUP and all others that would kill a process without a crash: the daemon says so,
 * finishes what it does, unmounts, and ends. One that whoever started us ignores, as nohup(1) does
 * with HUP, is not among them, and stays ignored.
 */
void signals_that_end(sigset_t *ret);
/* Handle all of them as TERM is handled now; those that have a handler keep it. */
void signals_handle_as_term(void);
/* Make them wait (block them), or let them come. Of the calling thread. */
void signals_hold(bool hold);

#endif
