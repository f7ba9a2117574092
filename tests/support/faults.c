/* faults.c - see faults.h. */
#include "faults.h"
#include "outcome.h"
#include <errno.h>
#include <string.h>

typedef struct Faults {
    const Sample *sample;
    Command command;
    int error;
    bool from_then_on;
    const FaultSource *source; /* NULL: the file */
    MemFile *before;
    Outcome outcomes[2]; /* before and after */
    FaultCounts *counts;
} Faults;

/* 0: before, 1: after, -1: neither. */
static int which(const Faults *f, MemFile *file)
{
    Outcome now = outcome_of_file(file);
    int found = -1;
    for (int i = 1; i >= 0; i--)
        if (outcome_same(&now, &f->outcomes[i]) &&
            memcmp(now.sector, f->outcomes[i].sector, OUTCOME_SECTOR) == 0)
            found = i;
    outcome_clear(&now);
    return found;
}

/* What is wrong with a command that ended like this, or NULL. */
static const char *judge_result(const Faults *f, MemFile *file, int err, bool unknown)
{
    int state = which(f, file);
    bool guest_read = f->command.kind == COMMAND_WRITE && err == -EIO; /* any error of a view */
    if (state < 0)
        return "neither before nor after";
    if (err == 0)
        return state == 1 ? NULL : "success, but nothing changed";
    if (f->error == MEM_SHORT || f->error == -EINTR)
        return "a failure for what is none";
    if (unknown)
        return err == -EIO ? NULL : "unknown is EIO";
    if (state != 0)
        return "a failure, but changed";
    if (err != f->error && !guest_read)
        return "another errno";
    if (!f->from_then_on && file->data->len != f->before->data->len)
        return "the file has grown";
    return NULL;
}

/* The storage works again, and so do commands. */
static const char *judge_next(const Faults *f, MemFile *file)
{
    Command repair = {.kind = COMMAND_REPAIR};
    bool unknown, again = which(f, file) == 0;
    if (script_run(file, again ? &f->command : &repair, &unknown) < 0)
        return "the next command fails";
    Outcome now = outcome_of_file(file);
    const char *wrong = NULL;
    if (g_strcmp0(now.digest, f->outcomes[1].digest) != 0)
        wrong = "the next command goes wrong";
    else if (now.verdict && !f->outcomes[0].leaky)
        wrong = "the next command leaves a broken image";
    outcome_clear(&now);
    return wrong;
}

/* Run the command while call n fails; how many calls there were. */
static int64_t run_with_fault(const Faults *f, MemFile *file, int64_t n, int *ret_err,
                              bool *ret_unknown)
{
    int64_t calls;
    mem_file_record(file);
    if (f->source) {
        f->source->begin(n, f->from_then_on);
        *ret_err = script_run(file, &f->command, ret_unknown);
        return f->source->end();
    }
    file->fail_at = n;
    file->fail_error = f->error;
    file->fail_on = f->from_then_on;
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
    const char *wrong = judge_result(f, file, err, unknown);
    if (!wrong)
        wrong = judge_next(f, file);
    if (wrong)
        *ret_finding = g_strdup_printf(
            "%s, command %d, %s at call %d%s: %s: %s", f->sample->kind.name, f->command.kind,
            f->error < 0 ? g_strerror(-f->error) : "short transfer", (int)n,
            f->from_then_on ? " and all later" : "", g_strerror(-err), wrong);
    f->counts->faults += reached;
    f->counts->successes += reached && err == 0;
    f->counts->failures += reached && err < 0 && !unknown;
    f->counts->unknown += reached && unknown;
    qc_file_unref(mem_file(file));
    return reached;
}

static char *try_all(Faults f, QcGate *gate)
{
    char *finding = NULL;
    f.before = sample_make(f.sample, gate);
    MemFile *after = mem_file_copy(f.before);
    bool unknown;
    if (sample_expected(f.sample, &f.command) == 0 &&
        script_run(after, &f.command, &unknown) == 0) {
        f.outcomes[0] = outcome_of_file(f.before);
        f.outcomes[1] = outcome_of_file(after);
        for (int64_t n = 0; !finding && try_call(&f, n, &finding); n++)
            ;
    }
    outcome_clear(&f.outcomes[0]);
    outcome_clear(&f.outcomes[1]);
    qc_file_unref(mem_file(after));
    qc_file_unref(mem_file(f.before));
    return finding;
}

char *faults_try(const Sample *s, QcGate *gate, unsigned command, int error, bool from_then_on,
                 FaultCounts *counts)
{
    return try_all((Faults){.sample = s,
                            .command = sample_command(s, command),
                            .error = error,
                            .from_then_on = from_then_on,
                            .counts = counts},
                   gate);
}

char *faults_try_source(const Sample *s, QcGate *gate, unsigned command, const FaultSource *source,
                        bool from_then_on, FaultCounts *counts)
{
    return try_all((Faults){.sample = s,
                            .command = sample_command(s, command),
                            .error = source->error,
                            .from_then_on = from_then_on,
                            .source = source,
                            .counts = counts},
                   gate);
}
