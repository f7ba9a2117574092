/*
 * Power cuts and errors in the middle of commands. Each command is recorded once on a file in
 * memory; then every state that a power cut could leave is made - all writes up to a sync and
 * any subset of those after it, each whole, torn at a sector, or not there - and judged: the
 * image must be clean, and its disks exactly those of before or of after.
 */
#include "judge.h"
#include "script.h"
#include <criterion/criterion.h>

enum {
    SUBSETS = 12, /* sampled for each gap between syncs */
};

static MemFile *prepared(const Kind *kind)
{
    static const Command history[] = {
        {.kind = COMMAND_WRITE, .offset = 0, .len = 100000, .seed = 1},
        {.kind = COMMAND_TAKE, .name = "one"},
        {.kind = COMMAND_WRITE, .offset = 50000, .len = 100000, .seed = 2},
        {.kind = COMMAND_TAKE, .name = "two"},
        {.kind = COMMAND_WRITE, .offset = 30000, .len = 5000, .seed = 3},
    };
    MemFile *file = script_image(kind, 300 * 1024);
    for (size_t i = 0; i < G_N_ELEMENTS(history); i++) {
        bool unknown;
        int err = script_run(file, &history[i], &unknown);
        cr_assert_eq(err, 0, "%s: preparation %zu: %d", kind->name, i, err);
    }
    return file;
}

static const Command commands[] = {
    {.kind = COMMAND_TAKE, .name = "three"},
    {.kind = COMMAND_REVERT, .snapshot = 0},
    {.kind = COMMAND_REVERT, .snapshot = 1},
    {.kind = COMMAND_DELETE, .snapshot = 0},
    {.kind = COMMAND_DELETE, .snapshot = 1},
    {.kind = COMMAND_RENAME, .snapshot = 1, .name = "a much longer name than before"},
    {.kind = COMMAND_WRITE, .offset = 20000, .len = 40000, .seed = 9},
};

/* A 2-bit count cannot take a third snapshot. */
static bool possible(const Kind *kind, const Command *c)
{
    return kind->refcount_bits != 2 || (c->kind != COMMAND_TAKE);
}

typedef struct Expectation {
    const char *kind;
    int command;
    const char *before, *after;
    unsigned states;
} Expectation;

static void judge_state(MemFile *state, Expectation *e)
{
    g_autofree char *wrong = judge_check(state), *digest = judge_digest(state);
    cr_assert_null(wrong, "%s command %d: %s", e->kind, e->command, wrong);
    cr_assert_not_null(digest);
    bool known = g_str_equal(digest, e->before) || g_str_equal(digest, e->after);
    cr_assert(known, "%s command %d: neither before nor after:\n%s", e->kind, e->command, digest);
    e->states++;
}

/* The file after ops[0..synced), and of ops[synced..end) what rand chooses. */
static void try_subset(const MemFile *before, GArray *log, guint synced, guint end, GRand *rand,
                       Expectation *e)
{
    MemFile *state = mem_file_copy(before);
    for (guint i = 0; i < end; i++) {
        const MemOp *op = &g_array_index(log, MemOp, i);
        uint64_t bytes = op->size;
        if (i >= synced && op->kind == MEM_WRITE) {
            gint32 fate = g_rand_int_range(rand, 0, 3);
            if (fate == 0)
                continue;
            if (fate == 1)
                bytes = (uint64_t)g_rand_int_range(rand, 0, (gint32)(op->size / 512) + 1) * 512;
        }
        mem_file_apply(state, op, bytes);
    }
    judge_state(state, e);
    qc_file_unref(mem_file(state));
}

static void cut_power(const MemFile *before, GArray *log, Expectation *e)
{
    GRand *rand = g_rand_new_with_seed(7);
    guint synced = 0;
    for (guint end = 0; end <= log->len; end++) {
        MemFile *prefix = mem_file_copy(before);
        for (guint i = 0; i < end; i++) {
            const MemOp *op = &g_array_index(log, MemOp, i);
            mem_file_apply(prefix, op, op->size);
        }
        judge_state(prefix, e);
        qc_file_unref(mem_file(prefix));
        for (unsigned s = 0; s < SUBSETS; s++)
            try_subset(before, log, synced, end, rand, e);
        if (end < log->len && g_array_index(log, MemOp, end).kind == MEM_SYNC)
            synced = end;
    }
    g_rand_free(rand);
}

Test(crash, every_power_cut_leaves_before_or_after, .timeout = 240)
{
    unsigned states = 0;
    for (size_t k = 0; k < script_n_kinds; k++) {
        MemFile *before = prepared(&script_kinds[k]);
        g_autofree char *digest_before = judge_digest(before);
        for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
            if (!possible(&script_kinds[k], &commands[c]))
                continue;
            MemFile *after = mem_file_copy(before);
            bool unknown;
            mem_file_record(after);
            cr_assert_eq(0, script_run(after, &commands[c], &unknown));
            g_autofree char *digest_after = judge_digest(after);
            Expectation e = {script_kinds[k].name, (int)c, digest_before, digest_after, 0};
            cut_power(before, after->log, &e);
            states += e.states;
            qc_file_unref(mem_file(after));
        }
        qc_file_unref(mem_file(before));
    }
    cr_log_info("%u states judged", states);
    cr_assert_gt(states, 1000);
}

Test(crash, the_switch_is_one_write_of_the_first_sector_between_two_syncs)
{
    for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
        MemFile *file = prepared(&script_kinds[1]);
        bool unknown;
        mem_file_record(file);
        cr_assert_eq(0, script_run(file, &commands[c], &unknown));
        guint n = file->log->len, syncs = 0, in_place = 0;
        cr_assert_gt(n, 3);
        for (guint i = 0; i < n; i++) {
            const MemOp *op = &g_array_index(file->log, MemOp, i);
            syncs += op->kind == MEM_SYNC;
            in_place += op->kind == MEM_WRITE && op->offset < 512;
        }
        cr_assert_eq(syncs, 2);
        cr_assert_eq(in_place, 1);
        cr_assert_eq(g_array_index(file->log, MemOp, n - 3).kind, MEM_SYNC);
        cr_assert_eq(g_array_index(file->log, MemOp, n - 2).offset, 0);
        cr_assert_eq(g_array_index(file->log, MemOp, n - 2).size, 512);
        cr_assert_eq(g_array_index(file->log, MemOp, n - 1).kind, MEM_SYNC);
        qc_file_unref(mem_file(file));
    }
}

/* One fault at call n of a command: the outcome must be honest. */
static bool try_fault(const Kind *kind, const MemFile *before, const Command *c, int64_t n,
                      int fault, bool from_then_on, const char *digest_before)
{
    MemFile *file = mem_file_copy(before);
    bool unknown;
    mem_file_record(file);
    file->fail_at = n;
    file->fail_error = fault;
    file->fail_on = from_then_on;
    int err = script_run(file, c, &unknown);
    bool reached = file->calls > n;
    file->fail_at = -1;

    g_autofree char *wrong = judge_check(file), *digest = judge_digest(file);
    cr_assert_null(wrong, "%s call %ld: %s", kind->name, (long)n, wrong);
    bool unchanged = g_str_equal(digest, digest_before);
    if (err == 0)
        cr_assert_not(unchanged, "%s call %ld: success, but nothing changed", kind->name, (long)n);
    else if (!unknown)
        cr_assert(unchanged, "%s call %ld: failure, but changed", kind->name, (long)n);
    if (err != 0 && !unknown)
        cr_assert_leq(file->data->len, before->data->len + (from_then_on ? 1 << 20 : 0));
    qc_file_unref(mem_file(file));
    return reached;
}

Test(crash, every_error_is_reported_and_changes_nothing, .timeout = 240)
{
    static const int faults[] = {-EIO, -ENOSPC, -EINTR};
    for (size_t k = 0; k < script_n_kinds; k++) {
        MemFile *before = prepared(&script_kinds[k]);
        g_autofree char *digest = judge_digest(before);
        for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
            if (!possible(&script_kinds[k], &commands[c]))
                continue;
            for (size_t f = 0; f < G_N_ELEMENTS(faults); f++)
                for (int64_t n = 0;
                     try_fault(&script_kinds[k], before, &commands[c], n, faults[f], false, digest);
                     n++)
                    ;
            for (int64_t n = 0;
                 try_fault(&script_kinds[k], before, &commands[c], n, -EIO, true, digest); n++)
                ;
        }
        qc_file_unref(mem_file(before));
    }
}

Test(crash, short_transfers_are_continued)
{
    MemFile *file = prepared(&script_kinds[1]);
    bool unknown;
    g_autofree char *before = judge_digest(file);
    file->short_io = true;
    cr_assert_eq(0, script_run(file, &commands[0], &unknown));
    file->short_io = false;
    g_autofree char *wrong = judge_check(file), *after = judge_digest(file);
    cr_assert_null(wrong, "%s", wrong);
    cr_assert_str_neq(before, after);
    qc_file_unref(mem_file(file));
}
