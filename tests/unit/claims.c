/* Readers and commands of one file keep out of each other's way. */
#include "claims.h"

#include <criterion/criterion.h>
#include <errno.h>

/* Many would wait for ever where they ought to fail. */
TestSuite(claims, .timeout = 60);

static const QcFileStat file = {.dev = 1, .ino = 2}, other = {.dev = 1, .ino = 3};

Test(claims, a_part_that_is_read_is_not_changed)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_hold(claims, &file, "one", "image"), 0);
    cr_assert_eq(claims_hold(claims, &file, "one", "image"), 0);
    cr_assert_eq(claims_begin(claims, &file), 0);
    cr_expect_eq(claims_change(claims, &file, "one"), -EBUSY);
    cr_expect_eq(claims_change(claims, &file, "two"), 0);
    claims_end(claims, &file, false);

    claims_drop(claims, &file, "one", "image");
    cr_assert_eq(claims_begin(claims, &file), 0);
    cr_expect_eq(claims_change(claims, &file, "one"), -EBUSY, "one reader is left");
    claims_drop(claims, &file, "one", "image");
    cr_expect_eq(claims_change(claims, &file, "one"), 0);
    claims_end(claims, &file, false);
    claims_free(claims);
}

Test(claims, who_reads_is_known_by_name)
{
    Claims *claims = claims_new();

    claims_hold(claims, &file, "one", "b");
    claims_hold(claims, &file, "one", "a");
    claims_hold(claims, &file, "one", "b");
    claims_hold(claims, &file, "two", "c");
    claims_hold(claims, &other, "one", "d");
    g_auto(GStrv) both = claims_readers(claims, &file, "one");
    claims_drop(claims, &file, "one", "a");
    claims_drop(claims, &file, "one", "b");
    g_auto(GStrv) one = claims_readers(claims, &file, "one");
    claims_drop(claims, &file, "one", "b");
    g_auto(GStrv) none = claims_readers(claims, &file, "one");
    cr_expect(g_strv_equal((const char *const *)both, (const char *const[]){"a", "b", NULL}));
    cr_expect(g_strv_equal((const char *const *)one, (const char *const[]){"b", NULL}));
    cr_expect_eq(g_strv_length(none), 0);
    claims_free(claims);
}

/* However many there are, and however often one of them has the part open. */
Test(claims, of_many_readers_some_are_named)
{
    Claims *claims = claims_new();

    for (unsigned i = 0; i < 2 * CLAIMS_NAMED; i++)
        claims_hold(claims, &file, "one", "often");
    claims_hold(claims, &file, "one", "rarely");
    g_auto(GStrv) two = claims_readers(claims, &file, "one");
    for (unsigned i = 0; i < 2 * CLAIMS_NAMED; i++) {
        g_autofree char *path = g_strdup_printf("%u", i);

        claims_hold(claims, &file, "one", path);
    }
    g_auto(GStrv) some = claims_readers(claims, &file, "one");
    cr_expect(
        g_strv_equal((const char *const *)two, (const char *const[]){"often", "rarely", NULL}));
    cr_expect_eq(g_strv_length(some), CLAIMS_NAMED);
    claims_free(claims);
}

Test(claims, a_part_that_changes_is_not_opened)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    cr_assert_eq(claims_change(claims, &file, "one"), 0);
    cr_expect_eq(claims_hold(claims, &file, "one", "image"), -EBUSY);
    cr_expect_eq(claims_hold(claims, &file, "two", "image"), 0);
    cr_expect_eq(claims_hold(claims, &other, "one", "image"), 0);
    claims_end(claims, &file, false);
    cr_expect_eq(claims_hold(claims, &file, "one", "image"), 0);
    claims_free(claims);
}

Test(claims, poison)
{
    const QcFileStat restored = {.dev = file.dev, .ino = file.ino, .btime = 1};
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_end(claims, &file, true);
    cr_expect_eq(claims_begin(claims, &file), -EIO);
    cr_expect_eq(claims_begin(claims, &restored), 0,
                 "another file, with the number of the one before");
    claims_end(claims, &restored, false);
    cr_expect_eq(claims_begin(claims, &other), 0);
    claims_end(claims, &other, false);
    claims_free(claims);
}

/* As two nodes of it are; or one that was made anew. */
Test(claims, a_device_is_known_by_itself)
{
    const QcFileStat node = {.dev = 1, .ino = 2, .btime = 3, .rdev = 7};
    const QcFileStat twin = {.dev = 1, .ino = 4, .btime = 5, .rdev = 7};
    Claims *claims = claims_new();

    cr_assert_eq(claims_hold(claims, &node, "one", "image"), 0);
    cr_assert_eq(claims_begin(claims, &twin), 0);
    cr_expect_eq(claims_change(claims, &twin, "one"), -EBUSY);
    claims_end(claims, &twin, true);
    cr_expect_eq(claims_begin(claims, &node), -EIO);
    cr_expect_eq(claims_begin(claims, &file), 0, "a file with the number of the node");
    claims_end(claims, &file, false);
    claims_drop(claims, &node, "one", "image");
    claims_free(claims);
}

Test(claims, busy)
{
    Claims *claims = claims_new();
    uint64_t before, during, after;

    cr_expect_not(claims_busy(claims, &file, &before));
    claims_begin(claims, &file);
    claims_locked(claims, &file);
    cr_expect(claims_busy(claims, &file, &during));
    cr_expect_not(claims_busy(claims, &other, &after));
    claims_end(claims, &file, false);
    cr_expect_not(claims_busy(claims, &file, &after));
    cr_expect(before < during && during < after);
    claims_free(claims);
}

static uint64_t epoch_of(Claims *claims)
{
    uint64_t epoch;

    cr_expect_not(claims_busy(claims, &other, &epoch));
    return epoch;
}

/* Who has asked before and after knows whether a command was there in between, on whatever file. */
Test(claims, each_step_of_a_command_begins_an_epoch)
{
    Claims *claims = claims_new();
    uint64_t before = epoch_of(claims);

    cr_expect_eq(epoch_of(claims), before);
    claims_begin(claims, &file);
    uint64_t begun = epoch_of(claims);
    claims_locked(claims, &file);
    uint64_t locked = epoch_of(claims);
    claims_unlocking(claims, &file);
    claims_end(claims, &file, false);
    cr_expect(before < begun && begun < locked && locked < epoch_of(claims));
    claims_free(claims);
}

static gint inside, met; /* atomic: commands on the file, and whether two were at a time */

static gpointer run_command(gpointer claims)
{
    g_assert(claims_begin(claims, &file) == 0);
    if (g_atomic_int_add(&inside, 1) != 0)
        g_atomic_int_set(&met, 1);
    g_assert(claims_change(claims, &file, "one") == 0);
    g_usleep(2000); /* time to meet another */
    g_atomic_int_add(&inside, -1);
    claims_end(claims, &file, false);
    return NULL;
}

Test(claims, commands_take_turns, .timeout = 60)
{
    Claims *claims = claims_new();
    GThread *threads[8];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("command", run_command, claims);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    cr_expect_eq(met, 0);
    claims_free(claims);
}

static gint over; /* atomic: what the thread has to wait for */

static gpointer command_after_pause(gpointer claims)
{
    g_assert(claims_begin(claims, &file) == 0);
    gint seen = g_atomic_int_get(&over);
    claims_end(claims, &file, false);
    return GINT_TO_POINTER(seen);
}

static gpointer pause_after_command(gpointer claims)
{
    g_assert(claims_pause(claims, &file, 0));
    gint seen = g_atomic_int_get(&over);
    claims_resume(claims, &file);
    return GINT_TO_POINTER(seen);
}

Test(claims, commands_wait_for_all_pauses, .timeout = 60)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_end(claims, &file, false);
    cr_expect(claims_pause(claims, &file, 0));
    cr_expect(claims_pause(claims, &file, 0));
    GThread *thread = g_thread_new("command", command_after_pause, claims);
    claims_resume(claims, &file);
    g_usleep(20000); /* time to do it wrong */
    g_atomic_int_set(&over, 1);
    claims_resume(claims, &file);
    cr_expect_eq(GPOINTER_TO_INT(g_thread_join(thread)), 1);
    claims_free(claims);
}

Test(claims, a_pause_waits_for_the_command, .timeout = 60)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    GThread *thread = g_thread_new("pause", pause_after_command, claims);
    g_usleep(20000);
    g_atomic_int_set(&over, 1);
    claims_end(claims, &file, false);
    cr_expect_eq(GPOINTER_TO_INT(g_thread_join(thread)), 1);
    claims_free(claims);
}

/* What changes by others is no reason to keep our commands off. */
Test(claims, only_what_commands_work_on_is_paused, .timeout = 60)
{
    Claims *claims = claims_new();

    cr_expect_not(claims_pause(claims, &file, 0));
    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_end(claims, &file, false);
    cr_expect_not(claims_pause(claims, &other, 0));
    cr_expect_not(claims_pause(claims, &file, g_get_monotonic_time() + 1), "that was before");
    cr_assert_eq(claims_begin(claims, &other), 0);
    claims_end(claims, &other, false);
    cr_expect(claims_pause(claims, &file, 0), "a command on another file changes nothing");
    cr_expect(claims_pause(claims, &other, 0));
    claims_resume(claims, &other);
    claims_resume(claims, &file);
    claims_free(claims);
}

/* A reader of something that changes all the time cannot hold up others. */
Test(claims, neither_pause_nor_command_waits_for_ever, .timeout = 60)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_end(claims, &file, false);
    cr_expect(claims_pause(claims, &file, 0));
    cr_expect_eq(claims_begin(claims, &file), 0);
    cr_expect_not(claims_pause(claims, &file, 0));
    claims_end(claims, &file, false);
    claims_resume(claims, &file);
    claims_free(claims);
}

static gpointer work_on_another(gpointer claims)
{
    while (!g_atomic_int_get(&over)) {
        g_assert(claims_begin(claims, &other) == 0);
        claims_end(claims, &other, false);
        g_usleep(1000);
    }
    return NULL;
}

/* What goes on elsewhere wakes who waits, and makes nobody wait longer. */
Test(claims, no_command_waits_for_ever_for_a_pause_while_others_work, .timeout = 60)
{
    Claims *claims = claims_new();

    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_end(claims, &file, false);
    cr_assert(claims_pause(claims, &file, 0));
    GThread *thread = g_thread_new("others", work_on_another, claims);
    cr_expect_eq(claims_begin(claims, &file), 0);
    g_atomic_int_set(&over, 1);
    g_thread_join(thread);
    claims_end(claims, &file, false);
    claims_resume(claims, &file);
    claims_free(claims);
}

static gpointer lock_soon(gpointer claims)
{
    g_usleep(20000); /* time to do it wrong */
    g_atomic_int_set(&over, 1);
    claims_locked(claims, &file);
    return NULL;
}

/* Locks that are about to be ours would be taken for those of somebody else. */
Test(claims, who_asks_waits_while_a_command_takes_its_locks, .timeout = 60)
{
    Claims *claims = claims_new();
    uint64_t epoch;

    cr_assert_eq(claims_begin(claims, &file), 0);
    GThread *thread = g_thread_new("command", lock_soon, claims);
    cr_expect(claims_busy(claims, &file, &epoch));
    cr_expect_eq(g_atomic_int_get(&over), 1);
    cr_expect_eq(epoch, epoch_of(claims), "that of the answer");
    g_thread_join(thread);
    claims_end(claims, &file, false);
    claims_free(claims);
}

static gpointer end_soon(gpointer claims)
{
    g_usleep(20000); /* time to do it wrong */
    g_atomic_int_set(&over, 1);
    claims_end(claims, &file, false);
    return NULL;
}

/* Locks that are there then may be those of somebody else. */
Test(claims, who_asks_waits_while_a_command_drops_its_locks, .timeout = 60)
{
    Claims *claims = claims_new();
    uint64_t epoch;

    cr_assert_eq(claims_begin(claims, &file), 0);
    claims_locked(claims, &file);
    claims_unlocking(claims, &file);
    GThread *thread = g_thread_new("command", end_soon, claims);
    cr_expect_not(claims_busy(claims, &file, &epoch));
    cr_expect_eq(g_atomic_int_get(&over), 1);
    g_thread_join(thread);
    claims_free(claims);
}

typedef struct Leaver {
    Claims *claims;
    gint64 gone; /* when it was, monotonic */
} Leaver;

static gpointer drop_soon(gpointer data)
{
    Leaver *leaver = data;

    g_usleep(20000);
    claims_drop(leaver->claims, &file, "one", "image");
    leaver->gone = g_get_monotonic_time();
    return NULL;
}

/* Whether it was waited for; 1: on a busy machine it went too late for that. */
static int wait_for_reader(void)
{
    Leaver leaver = {.claims = claims_new()};

    cr_assert_eq(claims_hold(leaver.claims, &file, "one", "image"), 0);
    cr_assert_eq(claims_begin(leaver.claims, &file), 0);
    gint64 start = g_get_monotonic_time();
    GThread *thread = g_thread_new("reader", drop_soon, &leaver);
    int r = claims_change(leaver.claims, &file, "one");
    g_thread_join(thread);
    bool late =
        leaver.gone - start > 400 * G_TIME_SPAN_MILLISECOND; /* MOMENT_MS is not much more */
    claims_end(leaver.claims, &file, false);
    claims_free(leaver.claims);
    return r != 0 && late ? 1 : r;
}

/* The kernel tells of a close a moment later. */
Test(claims, a_reader_that_is_about_to_go_is_waited_for, .timeout = 60)
{
    int r = 1;

    for (unsigned tries = 0; tries < 50 && r == 1; tries++)
        r = wait_for_reader();
    cr_expect_eq(r, 0);
}
