/* faults.c - see faults.h. */
#include "faults.h"
#include "outcome.h"
#include "points.h"
#include <errno.h>
#include <string.h>

typedef struct Faults {
    const Sample *sample;
    Step command;
    const FaultPlan *plan;
    MemFile *before, *after;
    Outcome outcomes[2]; /* of these */
    FaultCounts *counts;
} Faults;

/* Then there is nothing to judge, which takes long where clusters are large. */
static bool same_bytes(const MemFile *a, const MemFile *b)
{
    return a->data->len == b->data->len && memcmp(a->data->data, b->data->data, a->data->len) == 0;
}

/* 0: before, 1: after, -1: neither. */
static int which(const Faults *f, MemFile *file)
{
    if (same_bytes(file, f->before))
        return 0;
    if (same_bytes(file, f->after))
        return 1;
    Outcome now = outcome_of_file(file);
    int found = -1;
    for (int i = 1; i >= 0; i--)
        if (outcome_same(&now, &f->outcomes[i]) &&
            memcmp(now.sector, f->outcomes[i].sector, OUTCOME_SECTOR) == 0)
            found = i;
    outcome_clear(&now);
    return found;
}

/* What is wrong with a command that ended like this, in this state (as which()), or NULL. */
static const char *judge_result(const Faults *f, const MemFile *file, int state, int err,
                                bool unknown)
{
    bool guest_read = f->command.kind == STEP_WRITE && err == -EIO; /* any error of a view */
    if (state < 0)
        return "neither before nor after";
    if (err == 0)
        return state == 1 ? NULL : "success, but nothing changed";
    if (f->plan->error == MEM_SHORT || f->plan->error == -EINTR)
        return "a failure for what is none";
    if (unknown)
        return err == -EIO ? NULL : "unknown is EIO";
    if (state != 0)
        return "a failure, but changed";
    if (err != f->plan->error && !guest_read)
        return "another errno";
    if (!f->plan->from_then_on && file->data->len != f->before->data->len)
        return "the file has grown";
    return NULL;
}

/* The storage works again, and so do commands. */
static const char *judge_next(const Faults *f, MemFile *file, int state)
{
    Step repair = {.kind = STEP_REPAIR};
    bool unknown;
    if (script_run(file, state == 0 ? &f->command : &repair, &unknown) < 0)
        return "the next command fails";
    bool same = same_bytes(file, f->after);
    Outcome now = same ? f->outcomes[1] : outcome_of_file(file);
    const char *wrong = NULL;
    if (g_strcmp0(now.digest, f->outcomes[1].digest) != 0)
        wrong = "the next command goes wrong";
    else if (now.verdict && !(f->outcomes[0].leaky && f->command.kind == STEP_WRITE))
        wrong = "the next command leaves a broken image";
    if (!same)
        outcome_clear(&now);
    return wrong;
}

/* Run the command on a new copy while call n fails; how many calls there were. */
static int64_t run_with_fault(const Faults *f, MemFile *file, int64_t n, int *ret_err,
                              bool *ret_unknown)
{
    int64_t calls;
    if (f->plan->source) {
        f->plan->source->begin(n, f->plan->from_then_on);
        *ret_err = script_run(file, &f->command, ret_unknown);
        return f->plan->source->end();
    }
    file->fail_at = n;
    file->fail_error = f->plan->error;
    file->fail_on = f->plan->from_then_on;
    *ret_err = script_run(file, &f->command, ret_unknown);
    calls = file->calls;
    file->fail_at = -1;
    return calls;
}

/* Call n fails. False when there is no call n. */
static bool try_call(Faults *f, int64_t n, char **ret_finding)
{
    MemFile *file = mem_file_copy(f->before);
    bool unknown;
    int err;
    bool reached = run_with_fault(f, file, n, &err, &unknown) > n;
    int state = which(f, file);
    const char *wrong = judge_result(f, file, state, err, unknown);
    if (!wrong)
        wrong = judge_next(f, file, state);
    if (wrong)
        *ret_finding = g_strdup_printf(
            "%s, command %d, %s at call %d%s: %s: %s", f->sample->kind.name, f->command.kind,
            f->plan->error < 0 ? g_strerror(-f->plan->error) : "short transfer", (int)n,
            f->plan->from_then_on ? " and all later" : "", g_strerror(-err), wrong);
    f->counts->faults += reached;
    f->counts->successes += reached && err == 0;
    f->counts->failures += reached && err < 0 && !unknown;
    f->counts->unknown += reached && unknown;
    qc_file_unref(mem_file(file));
    return reached;
}

/* All calls, also those that only a fault brings about; or some of those that there are. */
static char *try_calls(Faults *f, int64_t n_calls)
{
    char *finding = NULL;
    if (f->plan->most == 0 || n_calls <= f->plan->most) {
        for (int64_t n = 0; !finding && try_call(f, n, &finding); n++)
            ;
        return finding;
    }
    g_autoptr(GArray) points = points_choose(n_calls, f->plan->most, f->plan->seed);
    f->counts->left_out += (uint64_t)n_calls - points->len;
    for (guint i = 0; i < points->len && !finding; i++)
        try_call(f, g_array_index(points, int64_t, i), &finding);
    return finding;
}

char *faults_try(const Sample *s, unsigned command, const FaultPlan *plan, FaultCounts *counts)
{
    Faults f = {.sample = s, .command = sample_command(s, command), .plan = plan, .counts = counts};
    f.before = sample_make_for(s, plan->gate, command);
    f.after = mem_file_copy(f.before);
    char *finding = NULL;
    bool unknown;
    int err = 0;
    if (sample_expected(s, &f.command) == 0) {
        int64_t n_calls = run_with_fault(&f, f.after, -1, &err, &unknown);
        f.outcomes[0] = outcome_of_file(f.before);
        f.outcomes[1] = outcome_of_file(f.after);
        finding = err < 0 ? g_strdup_printf("%s: %s", s->kind.name, g_strerror(-err))
                          : try_calls(&f, n_calls);
    }
    outcome_clear(&f.outcomes[0]);
    outcome_clear(&f.outcomes[1]);
    qc_file_unref(mem_file(f.after));
    qc_file_unref(mem_file(f.before));
    return finding;
}
