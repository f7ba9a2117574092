/* Which signals ask the writer of a command to stop, and when it is gone. */
#include "writer.h"

#include <criterion/criterion.h>
#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

Test(writer, those_that_are_pending)
{
    sigset_t all;

    sigfillset(&all);
    cr_expect_not(writer_asked_to_stop(gettid(), true), "none is");
    sigprocmask(SIG_BLOCK, &all, NULL);
    kill(getpid(), SIGINT);
    cr_expect_not(writer_asked_to_stop(gettid(), true), "who blocks it does not want to stop");
}

/* Of a process that is stopped, signals stay pending. To it, or to its thread alone. It stops by
 * itself: fork() returns to it with all signals blocked for a moment, by some C libraries. */
static bool asked_by(int number, bool thread)
{
    pid_t child = fork();

    if (child == 0) {
        signal(number, SIG_DFL);
        kill(getpid(), SIGSTOP);
        for (;;)
            pause();
    }
    waitpid(child, NULL, WUNTRACED);
    if (thread)
        tgkill(child, child, number);
    else
        kill(child, number);
    bool asked = writer_asked_to_stop(child, false);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return asked;
}

Test(writer, those_that_ask_to_stop)
{
    static const int those[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    static const int others[] = {SIGUSR1, SIGALRM, SIGWINCH, SIGCHLD};

    for (unsigned i = 0; i < G_N_ELEMENTS(those); i++)
        cr_expect(asked_by(those[i], false) && asked_by(those[i], true), "%d", those[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        cr_expect_not(asked_by(others[i], false) || asked_by(others[i], true), "%d", others[i]);
}

/* A process of another user, or of another namespace. */
Test(writer, of_who_cannot_be_seen_nothing_is_known)
{
    cr_expect(writer_asked_to_stop(0, true));
    cr_expect_not(writer_asked_to_stop(0, false));
}

static gpointer end_at_once(gpointer ret)
{
    *(pid_t *)ret = gettid();
    return NULL;
}

Test(writer, threads_that_end)
{
    bool seen = false, never = false;
    pid_t gone = 0;

    cr_expect_not(writer_has_ended(gettid(), &seen));
    cr_expect(seen);
    g_thread_join(g_thread_new("ends", end_at_once, &gone));
    while (tgkill(getpid(), gone, 0) == 0) /* who is joined may have a few steps left */
        g_usleep(1000);
    cr_expect(writer_has_ended(gone, &seen), "it was there");
    cr_expect_not(writer_has_ended(0, &never), "of another namespace");
    cr_expect_not(never);
}

/* At first it is not gone, as nobody has asked for its status. */
Test(writer, a_process_that_ends)
{
    bool seen = false, never = false;
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    cr_expect(writer_has_ended(child, &seen));
    waitpid(child, NULL, 0);
    cr_expect(writer_has_ended(child, &seen));
    cr_expect_not(writer_has_ended(child, &never), "it may be hidden");
}

/* A program calls itself what it likes: here, what could be taken for a field of /proc. */
Test(writer, names_are_no_fields)
{
    static const char *const names[] = {") 1 1 1 1 1 1 4", "\nSigPnd:\tffffff", "x) R 1 (", "",
                                        "\n\n"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        bool seen = false;

        cr_assert_eq(prctl(PR_SET_NAME, names[i]), 0);
        cr_expect_not(writer_has_ended(gettid(), &seen), "%s", names[i]);
        cr_expect(seen);
        cr_expect_not(writer_asked_to_stop(gettid(), true), "%s", names[i]);
    }
}
