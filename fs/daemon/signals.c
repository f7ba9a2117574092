/* signals.c - see signals.h. */
#include "signals.h"

#include <glib.h>

static bool is_ignored(int number)
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

void signals_that_end(sigset_t *ret)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    sigemptyset(ret);
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (!is_ignored(numbers[i]))
            sigaddset(ret, numbers[i]);
    }
}

void signals_hold(bool hold)
{
    sigset_t set;

    signals_that_end(&set);
    pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}
