/* Commands tell how far they are, and can be stopped until the switch. */
#include "judge.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>

typedef struct Listener {
    unsigned calls, stop_at;
    unsigned percent; /* that was told last */
} Listener;

static bool listen_to(void *data, unsigned percent)
{
    Listener *l = data;
    cr_expect_geq(percent, l->percent);
    cr_expect_lt(percent, 100);
    l->percent = percent;
    return l->calls++ != l->stop_at;
}

/* Take a snapshot, but stop at this call of the listener. ret_calls: how many there were. */
static int take_until(MemFile *file, unsigned stop_at, unsigned *ret_calls)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    Listener listener = {.stop_at = stop_at};
    QcRun run = {.progress = listen_to, .progress_data = &listener};
    int err = qc_snapshot_take(o.image, "more", 0, &run, NULL);
    cr_expect_not(run.unknown);
    *ret_calls = listener.calls;
    return err;
}

Test(stopping, a_command_that_is_stopped_has_changed_nothing)
{
    const Step write = {.kind = STEP_WRITE, .len = 300 * 1024, .seed = 1};
    MemFile *before = script_image(&script_kinds[0], 300 * 1024);
    unsigned calls, stop_at = 0;
    bool unknown;
    int err = -ECANCELED;
    cr_assert_eq(0, script_run(before, &write, &unknown));
    g_autofree char *digest = judge_digest(before);
    for (; err == -ECANCELED; stop_at++) {
        MemFile *file = mem_file_copy(before);
        err = take_until(file, stop_at, &calls);
        cr_expect_eq(err, calls > stop_at ? -ECANCELED : 0);
        g_autofree char *wrong = judge_check(file), *now = judge_digest(file);
        cr_expect_null(wrong, "%s", wrong);
        cr_expect_eq(g_str_equal(now, digest), err != 0);
        qc_file_unref(mem_file(file));
    }
    cr_expect_gt(stop_at, 10, "it was asked often");
    qc_file_unref(mem_file(before));
}

Test(stopping, a_check_can_be_stopped)
{
    MemFile *file = script_image(&script_kinds[0], 300 * 1024);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    Listener listener = {0};
    const QcRun run = {.progress = listen_to, .progress_data = &listener};
    QcCheck found;
    cr_expect_eq(-ECANCELED, qc_image_check(o.image, &run, &found, NULL));
    qc_file_unref(mem_file(file));
}

/* While it looks at what it mends, too. */
Test(stopping, a_repair_can_be_stopped)
{
    MemFile *before = script_image(&script_kinds[0], 300 * 1024);
    bool unknown;
    int err = -ECANCELED;
    cr_assert_eq(0, script_run(before, &(Step){.kind = STEP_WRITE, .len = 300 * 1024}, &unknown));
    for (unsigned stop_at = 0; err == -ECANCELED; stop_at++) {
        MemFile *file = mem_file_copy(before);
        g_auto(Opened) o = opened_new(mem_file(file), NULL);
        Listener listener = {.stop_at = stop_at};
        QcRun run = {.progress = listen_to, .progress_data = &listener};
        QcCheck found;
        err = qc_image_repair(o.image, &run, &found, NULL);
        cr_expect_eq(err, listener.calls > stop_at ? -ECANCELED : 0);
        qc_file_unref(mem_file(file));
    }
    qc_file_unref(mem_file(before));
}

typedef struct LastCall {
    const MemFile *file;
    guint done; /* operations on the file before it */
} LastCall;

static bool note_call(void *data, unsigned percent)
{
    LastCall *last = data;
    (void)percent;
    last->done = last->file->log->len;
    return true;
}

Test(stopping, a_take_can_be_stopped_until_all_is_written_but_the_switch)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    LastCall last = {.file = file};
    QcRun run = {.progress = note_call, .progress_data = &last};
    mem_file_record(file);
    cr_assert_eq(0, qc_snapshot_take(o.image, "a", 0, &run, NULL));
    cr_expect_eq(file->log->len, last.done + 2, "a write and a sync");
    qc_file_unref(mem_file(file));
}
