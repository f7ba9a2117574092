/*
 * ordeal - what can become of commands on every kind of image, in memory.
 *
 *   ordeal power DIR [SAMPLE]    cut the power in each command, in every combination of up to 12
 *                                unsynced writes; some states are left in DIR as files, whose
 *                                names begin with what qemu-img check has to say: clean or leaks
 *   ordeal kill DIR [SAMPLE]     kill the process in a command, and cut the power in the next one
 *   ordeal fail DIR [SAMPLE]     let a command fail, and cut the power in the next one
 *   ordeal errors DIR [SAMPLE]   an error at each call of the file, once and from then on
 *   ordeal write DIR [SAMPLE]    only write the samples there, as NAME.qcow2
 *
 * Of samples that are big, kill, fail and errors try some of the calls: the first, the last, and
 * others at random, for each command and error (with another seed) others. Each sample is tried in
 * a process of its own, on all processors; what comes of it is the same with and without the
 * others. DIR holds the backing file. Prints totals; exit 1 with what was found wrong first, or
 * when there was less to try than there should be.
 */
#include "faults.h"
#include "trial.h"
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BIG_CALLS = 30, /* of a command on a big sample, that fail */
    BIG_POINTS = 6, /* of its writes and syncs, where it is killed or fails before another one */
};

typedef struct Ordeal {
    const char *dir;
    QcGate *gate;
    const char *only; /* NULL: all samples */
} Ordeal;

/* What came of a sample, or of all. */
typedef struct Totals {
    Trial trial;
    FaultCounts faults;
} Totals;

typedef bool (*Experiment)(const Ordeal *o, const Sample *s, Totals *totals);

static bool wanted(const Ordeal *o, const Sample *s)
{
    return !o->only || g_str_equal(o->only, s->kind.name);
}

static bool complain(const char *finding)
{
    if (finding)
        fprintf(stderr, "%s\n", finding);
    return !finding;
}

/* Whether the experiment was as large as it is meant to be. */
static bool enough(const Ordeal *o, uint64_t n, uint64_t least)
{
    if (o->only || n >= least)
        return true;
    fprintf(stderr, "only %lu of %lu\n", (unsigned long)n, (unsigned long)least);
    return false;
}

static void print_sample(const Sample *s, uint64_t n)
{
    printf("%-26s %8lu\n", s->kind.name, (unsigned long)n);
    fflush(stdout);
}

/* ---- all samples ------------------------------------------------------------------------ */

static void add_totals(Totals *sum, const Totals *t)
{
    sum->trial.commands += t->trial.commands;
    sum->trial.faults += t->trial.faults;
    sum->trial.states += t->trial.states;
    sum->trial.before += t->trial.before;
    sum->trial.after += t->trial.after;
    sum->trial.overwritten += t->trial.overwritten;
    sum->trial.saved += t->trial.saved;
    sum->faults.faults += t->faults.faults;
    sum->faults.successes += t->faults.successes;
    sum->faults.failures += t->faults.failures;
    sum->faults.unknown += t->faults.unknown;
    sum->faults.left_out += t->faults.left_out;
}

/* Wait for one of the processes; whether all was right in it. */
static bool end_one(void)
{
    int status;
    if (wait(&status) < 0)
        return false;
    if (WIFSIGNALED(status))
        fprintf(stderr, "a process was ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* As many at a time as there are processors. After a failure no more are begun. */
static bool try_in_processes(const Ordeal *o, Experiment experiment, Totals *totals)
{
    guint running = 0, most = g_get_num_processors();
    bool ok = true;
    for (size_t i = 0; i < n_samples; i++) {
        if (running == most) {
            ok = end_one() && ok;
            running--;
        }
        if (!ok || !wanted(o, &samples[i]))
            continue;
        pid_t pid = fork();
        if (pid == 0)
            _exit(experiment(o, &samples[i], &totals[i]) ? 0 : 1);
        ok = pid > 0;
        running += ok;
    }
    for (; running > 0; running--)
        ok = end_one() && ok;
    return ok;
}

static bool try_samples(const Ordeal *o, Experiment experiment, Totals *ret)
{
    size_t bytes = n_samples * sizeof(Totals);
    Totals *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return false;
    bool ok = try_in_processes(o, experiment, shared);
    for (size_t i = 0; i < n_samples; i++)
        add_totals(ret, &shared[i]);
    munmap(shared, bytes);
    return ok;
}

static void print_trial(const char *what, const Trial *t)
{
    printf("%s: %lu commands, %lu states, all right: %lu before, %lu after; in %lu the disk was "
           "overwritten, and no snapshot changed\n",
           what, (unsigned long)t->commands, (unsigned long)t->states, (unsigned long)t->before,
           (unsigned long)t->after, (unsigned long)t->overwritten);
}

/* ---- power ------------------------------------------------------------------------------ */

static bool power_in(const Ordeal *o, const Sample *s, Totals *totals)
{
    Trial *t = &totals->trial;
    *t = (Trial){.plan = {.every = 12, .samples = 200, .tears = 64, .mixed = 60},
                 .big_plan = {.every = 2, .samples = 2, .tears = 1, .mixed = 1},
                 .overwrite_every = sample_is_big(s) ? 10 : 50, /* of these each 200th */
                 .save_every = 300,
                 .save_dir = o->dir,
                 .gate = o->gate};
    for (unsigned c = 0; c < sample_n_commands(s); c++)
        if (!trial_power_cuts(t, s, c))
            return complain(t->failure);
    print_sample(s, t->states);
    return true;
}

static bool power(const Ordeal *o)
{
    Totals n = {0};
    if (!try_samples(o, power_in, &n))
        return false;
    print_trial("power cuts", &n.trial);
    return enough(o, n.trial.states, 100000) && enough(o, n.trial.saved, 300);
}

/* ---- two commands ----------------------------------------------------------------------- */

typedef bool (*TwoCommands)(Trial *trial, const Sample *sample, unsigned a, unsigned b);

/* The second commands: take, write, delete oldest, rename. Of big samples, in turn. */
static bool two_in(const Ordeal *o, const Sample *s, Totals *totals, TwoCommands try)
{
    static const unsigned seconds[] = {0, 1, 6, 9};
    bool big = sample_is_big(s);
    Trial *t = &totals->trial;
    *t = (Trial){.plan = {.every = 2, .samples = 4, .tears = 1, .mixed = 2},
                 .big_plan = {.every = 1, .mixed = 1},
                 .overwrite_every = big ? 25 : 500, /* of these each 500th */
                 .most_points = big ? BIG_POINTS : 0,
                 .gate = o->gate};
    for (unsigned a = 0; a < sample_n_commands(s); a++)
        for (size_t i = 0; i < G_N_ELEMENTS(seconds); i++)
            if (seconds[i] < sample_n_commands(s) && (!big || i == a % G_N_ELEMENTS(seconds)) &&
                !try(t, s, a, seconds[i]))
                return complain(t->failure);
    print_sample(s, t->states);
    return true;
}

static bool kill_in(const Ordeal *o, const Sample *s, Totals *totals)
{
    return two_in(o, s, totals, trial_kill_and_go_on);
}

static bool kill_all(const Ordeal *o)
{
    Totals n = {0};
    if (!try_samples(o, kill_in, &n))
        return false;
    print_trial("killed, then power cuts in the next command", &n.trial);
    return enough(o, n.trial.states, 100000);
}

static bool fail_in(const Ordeal *o, const Sample *s, Totals *totals)
{
    return two_in(o, s, totals, trial_fail_and_go_on);
}

static bool fail_all(const Ordeal *o)
{
    Totals n = {0};
    if (!try_samples(o, fail_in, &n))
        return false;
    printf("%lu failures of commands\n", (unsigned long)n.trial.faults);
    print_trial("failed, then power cuts in the next command", &n.trial);
    return enough(o, n.trial.faults, 5000) && enough(o, n.trial.states, 100000);
}

/* ---- errors ----------------------------------------------------------------------------- */

static const struct {
    int error;
    bool from_then_on;
} faults[] = {
    {-EIO, false},    {-EIO, true},    {-ENOSPC, false},   {-ENOSPC, true},
    {-EDQUOT, false}, {-EINTR, false}, {MEM_SHORT, false}, {MEM_SHORT, true},
};

static bool errors_in(const Ordeal *o, const Sample *s, Totals *totals)
{
    FaultCounts *n = &totals->faults;
    for (unsigned c = 0; c < sample_n_commands(s); c++) {
        for (unsigned f = 0; f < G_N_ELEMENTS(faults); f++) {
            FaultPlan plan = {.gate = o->gate,
                              .error = faults[f].error,
                              .from_then_on = faults[f].from_then_on,
                              .most = sample_is_big(s) ? BIG_CALLS : 0,
                              .seed = c * G_N_ELEMENTS(faults) + f};
            g_autofree char *finding = faults_try(s, c, &plan, n);
            if (finding)
                return complain(finding);
        }
    }
    print_sample(s, n->faults);
    return true;
}

static bool errors(const Ordeal *o)
{
    Totals totals = {0};
    const FaultCounts *n = &totals.faults;
    if (!try_samples(o, errors_in, &totals))
        return false;
    printf("errors: %lu, each at one call: %lu times the command succeeded all the same, %lu times "
           "it failed and the image was as before, %lu times nobody could know; of the big samples "
           "%lu calls were left out\n",
           (unsigned long)n->faults, (unsigned long)n->successes, (unsigned long)n->failures,
           (unsigned long)n->unknown, (unsigned long)n->left_out);
    return enough(o, n->faults, 50000);
}

/* ---- write ------------------------------------------------------------------------------ */

static bool write_samples(const Ordeal *o)
{
    bool ok = true;
    for (size_t i = 0; i < n_samples && ok; i++) {
        g_autofree char *name = g_strconcat(samples[i].kind.name, ".qcow2", NULL);
        g_autofree char *path = g_build_filename(o->dir, name, NULL);
        if (!wanted(o, &samples[i]))
            continue;
        MemFile *file = sample_make(&samples[i], o->gate);
        ok = g_file_set_contents(path, (const char *)file->data->data, file->data->len, NULL);
        qc_file_unref(mem_file(file));
    }
    return ok;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(const Ordeal *o);
    } ordeals[] = {
        {"power", power},   {"kill", kill_all},       {"fail", fail_all},
        {"errors", errors}, {"write", write_samples},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(ordeals) && argc >= 3; i++) {
        if (!g_str_equal(argv[1], ordeals[i].name))
            continue;
        Ordeal o = {.dir = argv[2], .gate = samples_make_base(argv[2]), .only = argv[3]};
        mem_keep_memory();
        bool ok = ordeals[i].run(&o);
        qc_gate_unref(o.gate);
        return ok ? 0 : 1;
    }
    fprintf(stderr, "ordeal power|kill|fail|errors|write DIR [SAMPLE]\n");
    return 2;
}
