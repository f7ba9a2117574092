/* Which signals ask the writer of a command to stop. */
#include "signals.h"

#include <criterion/criterion.h>
#include <unistd.h>

Test(signals, those_that_are_pending)
{
    sigset_t all;

    sigfillset(&all);
    cr_expect_not(signals_ask_to_stop(gettid(), true), "none is");
    sigprocmask(SIG_BLOCK, &all, NULL);
    kill(getpid(), SIGINT);
    cr_expect_not(signals_ask_to_stop(gettid(), true), "who blocks it does not want to stop");
}

/* A process of another user, or of another namespace. */
Test(signals, of_who_cannot_be_seen_nothing_is_known)
{
    cr_expect(signals_ask_to_stop(0, true));
    cr_expect_not(signals_ask_to_stop(0, false));
}
