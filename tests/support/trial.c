/* trial.c - see trial.h. */
#include "trial.h"
#include "judge.h"
#include "outcome.h"
#include "points.h"
#include <errno.h>
#include <string.h>

enum {
    MAX_OUTCOMES = 4,
};

typedef struct Expectation {
    Trial *trial;
    const Sample *sample;
    const char *what;
    Outcome outcomes[MAX_OUTCOMES]; /* the first is before */
    unsigned n;
    bool leaks_stay; /* one of the commands is a write */
} Expectation;

static void fail(Expectation *e, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void fail(Expectation *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    if (!e->trial->failure)
        e->trial->failure = g_strdup_printf("%s, %s: %s", e->sample->kind.name, e->what, text);
}

/* What a state is, or an outcome that shares the first sector with it, or NULL. */
static const Outcome *find_outcome(const Expectation *e, const Outcome *state)
{
    const Outcome *alike = NULL;
    for (unsigned i = 0; i < e->n; i++) {
        const Outcome *o = &e->outcomes[i];
        if (memcmp(state->sector, o->sector, OUTCOME_SECTOR) != 0)
            continue;
        if (outcome_same(o, state))
            return o;
        alike = o;
    }
    return alike;
}

static void add_outcome(Expectation *e, MemFile *file)
{
    Outcome new = outcome_of_file(file);
    const Outcome *known = find_outcome(e, &new);
    if (known && outcome_same(known, &new)) { /* a command that was refused */
        outcome_clear(&new);
        return;
    }
    if (!new.digest)
        fail(e, "outcome %u cannot be read", e->n);
    /* What a command leaves is clean; but a write leaves leaks alone. */
    if (e->n > 0 && new.verdict && !(e->leaks_stay && new.leaky))
        fail(e, "outcome %u: %s", e->n, new.verdict);
    e->outcomes[e->n++] = new;
}

/* All but the first n. */
static void drop_outcomes(Expectation *e, unsigned n)
{
    for (; e->n > n; e->n--)
        outcome_clear(&e->outcomes[e->n - 1]);
}

/* ---- judging a state -------------------------------------------------------------------- */

/* For qemu-img check: the name tells what it has to say. Its dirty images are not judged. */
static void save(Expectation *e, const MemFile *state, const Outcome *o)
{
    Trial *t = e->trial;
    if (o->verdict && !o->leaky)
        return;
    if (e->sample->traits & TRAIT_DIRTY && o == &e->outcomes[0])
        return;
    g_autofree char *path =
        g_strdup_printf("%s/%s-%s-%lu.qcow2", t->save_dir, o->leaky ? "leaks" : "clean",
                        e->sample->kind.name, (unsigned long)t->saved++);
    if (!g_file_set_contents(path, (const char *)state->data->data, state->data->len, NULL))
        fail(e, "%s cannot be written", path);
}

static void overwrite(Expectation *e, const MemFile *state)
{
    if (e->sample->traits & TRAIT_BITMAP) /* the engine would have to keep it right */
        return;
    g_autofree char *finding = judge_overwriting(state);
    e->trial->overwritten++;
    if (finding)
        fail(e, "%s", finding);
}

static void compare(Expectation *e, const Outcome *state, const Outcome *o)
{
    if (!o)
        fail(e, "the first sector is of no outcome");
    else if (g_strcmp0(state->verdict, o->verdict) != 0)
        fail(e, "%s", state->verdict ? state->verdict : "clean, which it was not");
    else if (g_strcmp0(state->digest, o->digest) != 0)
        fail(e, "the disks are\n%s instead of\n%s", state->digest, o->digest);
}

static bool judge_state(void *data, MemFile *file)
{
    Expectation *e = data;
    Trial *t = e->trial;
    Outcome state = outcome_of_file(file);
    const Outcome *o = find_outcome(e, &state);
    compare(e, &state, o);
    outcome_clear(&state);
    t->states++;
    t->before += o == &e->outcomes[0];
    t->after += o != &e->outcomes[0];
    unsigned rarer = sample_is_big(e->sample) ? 20 : 1;
    if (t->overwrite_every && t->states % (t->overwrite_every * rarer) == 0)
        overwrite(e, file);
    if (!t->failure && t->save_every && t->states % t->save_every == 0)
        save(e, file, o);
    return !t->failure;
}

static const CutsPlan *plan_for(const Trial *t, const Sample *s)
{
    return sample_is_big(s) ? &t->big_plan : &t->plan;
}

/* ---- one command ------------------------------------------------------------------------ */

/*
 * Run a command that must do what is expected, recording it. After another one, what could not
 * be done before may be possible now.
 */
static MemFile *run(Expectation *e, const MemFile *on, unsigned i, bool after_another)
{
    MemFile *file = mem_file_copy(on);
    Step c = sample_command(e->sample, i);
    bool unknown;
    if (after_another)
        c.name = "another";
    e->leaks_stay = e->leaks_stay || c.kind == STEP_WRITE;
    mem_file_record(file);
    int err = script_run(file, &c, &unknown), expected = sample_expected(e->sample, &c);
    /* ... and the other may have taken the last snapshot that there can be. */
    bool full = after_another && err == -EFBIG && e->sample->traits & TRAIT_LIMIT_LAST;
    if ((err != expected && !(after_another && err == 0) && !full) || unknown)
        fail(e, "%s: %s instead of %s", sample_command_name(e->sample, i), g_strerror(-err),
             g_strerror(-expected));
    file->recording = false;
    return file;
}

/* A command that is refused writes nothing; it may have made durable what others wrote. */
static void expect_nothing(Expectation *e, const MemFile *before, const MemFile *after)
{
    bool wrote = false;
    for (guint i = 0; i < after->log->len; i++)
        wrote = wrote || g_array_index(after->log, MemOp, i).kind != MEM_SYNC;
    if (wrote || before->data->len != after->data->len ||
        memcmp(before->data->data, after->data->data, before->data->len) != 0)
        fail(e, "refused, but something was written");
}

bool trial_power_cuts(Trial *t, const Sample *s, unsigned i)
{
    Expectation e = {.trial = t, .sample = s, .what = sample_command_name(s, i)};
    Step c = sample_command(s, i);
    MemFile *before = sample_make_for(s, t->gate, i), *after = run(&e, before, i, false);
    add_outcome(&e, before);
    add_outcome(&e, after);
    t->commands++;
    if (sample_expected(s, &c) < 0)
        expect_nothing(&e, before, after);
    else if (!t->failure)
        cuts_visit(before, after->log, 0, plan_for(t, s), judge_state, &e);
    drop_outcomes(&e, 0);
    qc_file_unref(mem_file(after));
    qc_file_unref(mem_file(before));
    return !t->failure;
}

/* ---- two commands ----------------------------------------------------------------------- */

static void append_log(GArray *log, const GArray *more, guint n)
{
    for (guint i = 0; i < n; i++) /* the bytes stay the other's */
        g_array_append_val(log, g_array_index(more, MemOp, i));
}

/*
 * Cut the power in b, which runs on what n operations of log have made of before; and, where first
 * is less than n, before b begins, too.
 */
static void go_on(Expectation *e, const MemFile *before, const GArray *log, guint n, unsigned b,
                  guint first)
{
    MemFile *kernel = mem_file_copy(before);
    for (guint i = 0; i < n; i++)
        mem_file_apply(kernel, &g_array_index(log, MemOp, i), g_array_index(log, MemOp, i).size);
    MemFile *last = run(e, kernel, b, true);
    g_autoptr(GArray) both = g_array_new(FALSE, FALSE, sizeof(MemOp));
    append_log(both, log, n);
    append_log(both, last->log, last->log->len);
    unsigned n_outcomes = e->n;
    add_outcome(e, last);
    if (!e->trial->failure)
        cuts_visit(before, both, first, plan_for(e->trial, e->sample), judge_state, e);
    drop_outcomes(e, n_outcomes);
    qc_file_unref(mem_file(last));
    qc_file_unref(mem_file(kernel));
}

bool trial_kill_and_go_on(Trial *t, const Sample *s, unsigned a, unsigned b)
{
    g_autofree char *what =
        g_strdup_printf("%s killed, then %s", sample_command_name(s, a), sample_command_name(s, b));
    Expectation e = {.trial = t, .sample = s, .what = what};
    MemFile *before = sample_make_for(s, t->gate, a), *after = run(&e, before, a, false);
    add_outcome(&e, before);
    add_outcome(&e, after);
    t->commands++;
    g_autoptr(GArray) points = points_choose(after->log->len, t->most_points, a * 16 + b);
    for (guint i = 0; i < points->len && !t->failure; i++) {
        guint n = (guint)g_array_index(points, gint64, i) + 1;
        go_on(&e, before, after->log, n, b, n + 1); /* up to there it is trial_power_cuts() */
    }
    drop_outcomes(&e, 0);
    qc_file_unref(mem_file(after));
    qc_file_unref(mem_file(before));
    return !t->failure;
}

/* ---- a command that failed, and the next ------------------------------------------------ */

typedef enum FailMode {
    FAIL_ONCE,
    FAIL_SYNCS, /* and all later syncs: what is written stays in the kernel's memory */
    FAIL_ALL,   /* and all later calls */
    N_FAIL_MODES,
} FailMode;

/* Run command a while call n fails. */
static MemFile *run_failing(const Sample *s, const MemFile *on, unsigned a, int64_t n,
                            FailMode mode)
{
    MemFile *file = mem_file_copy(on);
    Step c = sample_command(s, a);
    bool unknown;
    mem_file_record(file);
    file->fail_at = n;
    file->fail_error = -EIO;
    file->fail_syncs = mode == FAIL_SYNCS;
    file->fail_on = mode == FAIL_ALL;
    script_run(file, &c, &unknown);
    file->recording = false;
    return file;
}

/* How many operations two runs of a command on the same image begin with alike. */
static guint common_start(const GArray *a, const GArray *b)
{
    guint n = 0;
    while (n < MIN(a->len, b->len)) {
        const MemOp *x = &g_array_index(a, MemOp, n), *y = &g_array_index(b, MemOp, n);
        if (x->kind != y->kind || x->offset != y->offset || x->size != y->size)
            break;
        n++;
    }
    return n;
}

/* Call n of command a fails in each way that leaves something else than the others do. */
static void fail_and_go_on(Expectation *e, const MemFile *before, const MemFile *after, unsigned a,
                           int64_t n, unsigned b)
{
    static const char *const modes[] = {"", " and later syncs", " and all later ones"};
    MemFile *last = NULL;
    for (FailMode mode = 0; mode < N_FAIL_MODES && !e->trial->failure; mode++) {
        g_autofree char *what =
            g_strdup_printf("%s with call %d%s failing, then %s", sample_command_name(e->sample, a),
                            (int)n, modes[mode], sample_command_name(e->sample, b));
        e->what = what;
        MemFile *failed = run_failing(e->sample, before, a, n, mode);
        guint len = failed->log->len, alike = common_start(failed->log, after->log);
        bool again = last && last->log->len == len && common_start(failed->log, last->log) == len;
        if (alike < len && !again) {
            go_on(e, before, failed->log, len, b, alike + 1); /* as after a kill */
            e->trial->faults++;
        }
        if (last)
            qc_file_unref(mem_file(last));
        last = failed;
        e->what = NULL;
    }
    if (last)
        qc_file_unref(mem_file(last));
}

bool trial_fail_and_go_on(Trial *t, const Sample *s, unsigned a, unsigned b)
{
    Expectation e = {.trial = t, .sample = s, .what = sample_command_name(s, a)};
    MemFile *before = sample_make_for(s, t->gate, a), *after = run(&e, before, a, false);
    add_outcome(&e, before);
    add_outcome(&e, after);
    t->commands++;
    g_autoptr(GArray) points = points_choose(after->log->len, t->most_points, a * 16 + b);
    for (guint i = 0; i < points->len && !t->failure; i++) {
        guint op = (guint)g_array_index(points, gint64, i);
        fail_and_go_on(&e, before, after, a, g_array_index(after->log, MemOp, op).call, b);
    }
    drop_outcomes(&e, 0);
    qc_file_unref(mem_file(after));
    qc_file_unref(mem_file(before));
    return !t->failure;
}

void trial_clear(Trial *t)
{
    g_clear_pointer(&t->failure, g_free);
}
