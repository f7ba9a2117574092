/* signals.c - see signals.h. */
#include "signals.h"

#include <glib.h>

static bool is_ignored(int number)
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static void add(sigset_t *set, int number)
{
    if (!is_ignored(number))
        sigaddset(set, number);
}

/*
 * (Not PIPE and XFSZ, which are ignored, and no crash: after that nothing can be relied on.)
 */
void signals_that_end(sigset_t *ret)
{
    static const int numbers[] = {SIGTERM, SIGINT,  SIGHUP,  SIGQUIT,   SIGUSR1, SIGUSR2,
                                  SIGALRM, SIGPROF, SIGXCPU, SIGVTALRM, SIGPOLL, SIGPWR};

    sigemptyset(ret);
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        add(ret, numbers[i]);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        add(ret, number);
}

void signals_handle_as_term(void)
{
    struct sigaction as_term, action;
    sigset_t set;

    signals_that_end(&set);
    sigaction(SIGTERM, NULL, &as_term);
    for (int number = 1; number <= SIGRTMAX; number++) {
        if (sigismember(&set, number) == 1 && sigaction(number, NULL, &action) == 0 &&
            action.sa_handler == SIG_DFL)
            sigaction(number, &as_term, NULL);
    }
}

void signals_hold(bool hold)
{
    sigset_t set;

    signals_that_end(&set);
    pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}
