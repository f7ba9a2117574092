/* signals.c - see signals.h. */
#include "signals.h"

void signals_that_end(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
}

void signals_hold(bool hold)
{
    sigset_t set;

    signals_that_end(&set);
    pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}
