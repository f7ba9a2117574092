/*
 * Power cuts and errors in the middle of commands, on images of every kind, in memory: the short
 * form of what tests/tools/ordeal.c does at length. The limits of what is tried are asserted, so
 * that nothing gets lost.
 */
#include "faults.h"
#include "format.h"
#include "image.h"
#include "judge.h"
#include "opened.h"
#include "trial.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

static char *dir;
static QcGate *gate;

static void set_up(void)
{
    mem_keep_memory();
    dir = g_dir_make_tmp("crash.XXXXXX", NULL);
    gate = samples_make_base(dir);
}

static void tear_down(void)
{
    g_autofree char *base = g_build_filename(dir, "base.raw", NULL);
    qc_gate_unref(gate);
    g_unlink(base);
    g_rmdir(dir);
    g_free(dir);
}

TestSuite(crash, .init = set_up, .fini = tear_down, .timeout = 1000);

static const Sample *sample_named(const char *name)
{
    for (size_t i = 0; i < n_samples; i++)
        if (g_str_equal(samples[i].kind.name, name))
            return &samples[i];
    cr_assert_fail("no sample %s", name);
    return NULL;
}

/* Big samples take their time: of these, the take alone; or a revert and a delete too. */
static bool is_tried(const Sample *s, unsigned command)
{
    if (s->traits & (TRAIT_THOUSAND | TRAIT_TABLE_FULL))
        return command == 0 || command == 4 || command == 7;
    return !sample_is_big(s) || command == 0;
}

Test(crash, samples_are_clean_or_as_broken_as_they_are_meant_to_be)
{
    for (size_t i = 0; i < n_samples; i++) {
        MemFile *file = sample_make(&samples[i], gate);
        g_autofree char *wrong = judge_check(file), *digest = judge_digest(file);
        bool broken = samples[i].traits & (TRAIT_DIRTY | TRAIT_LEAKS);
        cr_expect_eq(wrong != NULL, broken, "%s: %s", samples[i].kind.name, wrong);
        cr_expect_not_null(digest);
        qc_file_unref(mem_file(file));
    }
}

Test(crash, every_power_cut_leaves_before_or_after)
{
    Trial t = {.plan = {.every = 3, .samples = 2, .tears = 1, .mixed = 2},
               .big_plan = {.every = 1, .mixed = 1},
               .overwrite_every = 100,
               .gate = gate};
    for (size_t i = 0; i < n_samples; i++)
        for (unsigned c = 0; c < sample_n_commands(&samples[i]); c++)
            if (is_tried(&samples[i], c))
                cr_assert(trial_power_cuts(&t, &samples[i], c), "%s", t.failure);
    cr_log_info("%lu states", (unsigned long)t.states);
    cr_assert_gt(t.states, 7000);
    cr_assert_gt(t.after, 800);
    cr_assert_gt(t.overwritten, 50);
}

/*
 * What a killed process wrote may be in the kernel's memory only. The next command must not put
 * anything where the image that is still on disk has something.
 */
Test(crash, a_command_after_a_killed_one_starts_from_what_is_on_disk)
{
    static const char *const names[] = {"v2-512", "v3-512-dirty-2bit"};
    Trial t = {.plan = {.every = 1, .samples = 1, .mixed = 1}, .gate = gate};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const Sample *s = sample_named(names[i]);
        for (unsigned a = 0; a < sample_n_commands(s); a++)
            for (unsigned b = 0; b < 2; b++)
                cr_assert(trial_kill_and_go_on(&t, s, a, b), "%s", t.failure);
    }
    cr_log_info("%lu states", (unsigned long)t.states);
    cr_assert_gt(t.states, 4000);
    cr_assert_gt(t.after, 1000);
}

/* The same after a command that failed, and left the kernel with what it could not write. */
Test(crash, a_command_after_a_failed_one_starts_from_what_is_on_disk)
{
    static const struct {
        const char *name;
        unsigned step; /* from one of the first commands to the next */
    } tried[] = {
        {"v3-512-8bit", 1}, {"v3-512-64bit", 1}, {"v3-16k-extl2", 3}, {"v3-512-table-full", 5}};
    Trial t = {.plan = {.every = 3, .samples = 1, .mixed = 1},
               .big_plan = {.every = 1, .mixed = 1},
               .gate = gate};
    for (size_t i = 0; i < G_N_ELEMENTS(tried); i++) {
        const Sample *s = sample_named(tried[i].name);
        t.most_points = sample_is_big(s) ? 4 : 0;
        for (unsigned a = 0; a < sample_n_commands(s); a += tried[i].step)
            for (unsigned b = 0; b < 10; b += 9)
                cr_assert(trial_fail_and_go_on(&t, s, a, b), "%s", t.failure);
    }
    cr_log_info("%lu failures, %lu states", (unsigned long)t.faults, (unsigned long)t.states);
    cr_assert_gt(t.faults, 350);
    cr_assert_gt(t.states, 10000);
    cr_assert_gt(t.after, 2000);
}

Test(crash, the_switch_is_one_write_of_the_first_sector_between_two_syncs)
{
    const Sample *s = sample_named("v3-4k");
    for (unsigned i = 0; i < sample_n_commands(s); i++) {
        MemFile *file = sample_make_for(s, gate, i), *before = mem_file_copy(file);
        Step c = sample_command(s, i);
        bool unknown;
        mem_file_record(file);
        cr_assert_eq(0, script_run(file, &c, &unknown));
        const MemOp *ops = (const MemOp *)(void *)file->log->data;
        guint n = file->log->len, in_place = 0;
        cr_assert_gt(n, 6);
        for (guint k = 3; k < n - 2; k++)
            in_place += ops[k].kind != MEM_WRITE || ops[k].offset < 512;
        cr_expect_eq(in_place, 1, "only the sync before the switch");
        /* What is to be read, and then what was, is made durable first ... */
        cr_expect_eq(ops[0].kind, MEM_SYNC);
        cr_assert(ops[1].kind == MEM_WRITE && ops[1].offset == 0 && ops[1].size == 512);
        cr_expect_eq(0, memcmp(ops[1].bytes, before->data->data, 512));
        cr_expect_eq(ops[2].kind, MEM_SYNC);
        /* ... and what is new, then referred to. */
        cr_expect_eq(ops[n - 3].kind, MEM_SYNC);
        cr_expect(ops[n - 2].kind == MEM_WRITE && ops[n - 2].offset == 0 && ops[n - 2].size == 512);
        cr_expect_eq(ops[n - 1].kind, MEM_SYNC);
        qc_file_unref(mem_file(before));
        qc_file_unref(mem_file(file));
    }
}

Test(crash, every_error_is_reported_and_changes_nothing)
{
    static const char *const names[] = {"v2-512", "v3-512-compressed-64bit", "v3-512-dirty-2bit"};
    static const struct {
        int error;
        bool from_then_on;
    } faults[] = {
        {-EIO, false}, {-ENOSPC, true}, {-EDQUOT, false}, {-EINTR, false}, {MEM_SHORT, true}};
    FaultCounts n = {0};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const Sample *s = sample_named(names[i]);
        for (unsigned c = 0; c < sample_n_commands(s); c++)
            for (size_t f = 0; f < G_N_ELEMENTS(faults); f++) {
                FaultPlan plan = {
                    .gate = gate, .error = faults[f].error, .from_then_on = faults[f].from_then_on};
                g_autofree char *finding = faults_try(s, c, &plan, &n);
                cr_assert_null(finding, "%s", finding);
            }
    }
    cr_log_info("%lu errors", (unsigned long)n.faults);
    cr_assert_gt(n.successes, 2500);
    cr_assert_gt(n.failures, 2500);
    cr_assert_gt(n.unknown, 20);
}

Test(crash, errors_in_large_images)
{
    FaultCounts n = {0};
    for (size_t i = 0; i < n_samples; i++) {
        const Sample *s = &samples[i];
        for (unsigned c = 0; sample_is_big(s) && c < sample_n_commands(s); c += sample_step(s)) {
            FaultPlan plan = {.gate = gate,
                              .error = c % 2 ? -EIO : -ENOSPC,
                              .from_then_on = c > 5,
                              .most = 3,
                              .seed = c};
            g_autofree char *finding = faults_try(s, c, &plan, &n);
            cr_assert_null(finding, "%s", finding);
        }
    }
    cr_log_info("%lu errors", (unsigned long)n.faults);
    cr_assert_gt(n.failures, 5);
}

/* When the last sync fails, and putting the old sector back does not, it is as before. */
Test(crash, a_failed_last_sync_is_taken_back)
{
    const Sample *s = sample_named("v3-4k");
    MemFile *file = sample_make(s, gate);
    Step take = sample_command(s, 0);
    bool unknown;
    MemFile *good = mem_file_copy(file);
    mem_file_record(good);
    cr_assert_eq(0, script_run(good, &take, &unknown));
    g_autofree char *before = judge_digest(file);
    mem_file_record(file);
    file->fail_at = good->calls - 1; /* the last sync */
    file->fail_error = -EIO;
    cr_expect_eq(-EIO, script_run(file, &take, &unknown));
    cr_expect_not(unknown);
    g_autofree char *after = judge_digest(file);
    cr_expect_str_eq(before, after);
    cr_expect_eq(g_array_index(file->log, MemOp, file->log->len - 2).kind, MEM_SYNC);
    cr_expect_eq(g_array_index(file->log, MemOp, file->log->len - 1).kind, MEM_TRUNCATE);
    qc_file_unref(mem_file(good));
    qc_file_unref(mem_file(file));
}

/*
 * When the last sync fails, and the old sector cannot be put back either, nobody knows which of
 * them is on disk: what the new one refers to has to stay, also where the file could be cut off.
 */
static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    unsigned syncs;
} failing;

static int sync_thrice(QcFile *file)
{
    return ++failing.syncs > 3 ? -EIO : failing.usual->sync(file);
}

static ssize_t write_until_then(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    return failing.syncs > 3 ? -EIO : failing.usual->pwrite(file, buf, len, offset);
}

Test(crash, what_an_unknown_outcome_may_need_is_not_cut_off)
{
    const Sample *s = sample_named("v3-4k");
    for (unsigned i = 0; i < sample_n_commands(s); i++) {
        MemFile *file = sample_make_for(s, gate, i), *good = mem_file_copy(file);
        Step c = sample_command(s, i);
        bool unknown;
        cr_assert_eq(0, script_run(good, &c, &unknown));
        failing.usual = file->base.ops;
        failing.ops = *file->base.ops;
        failing.ops.sync = sync_thrice;
        failing.ops.pwrite = write_until_then;
        failing.syncs = 0;
        file->base.ops = &failing.ops;
        cr_expect_eq(-EIO, script_run(file, &c, &unknown));
        cr_expect(unknown, "%s", sample_command_name(s, i));
        file->base.ops = failing.usual;
        g_autofree char *wrong = judge_check(file);
        g_autofree char *after = judge_digest(good), *now = judge_digest(file);
        cr_expect_null(wrong, "%s: %s", sample_command_name(s, i), wrong);
        cr_expect_str_eq(now, after, "%s", sample_command_name(s, i));
        qc_file_unref(mem_file(good));
        qc_file_unref(mem_file(file));
    }
}

static unsigned headers_written;
static bool reads_fail; /* from the second header on */

static ssize_t read_or_fail(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    return reads_fail && headers_written > 1 ? -EIO : failing.usual->pread(file, buf, len, offset);
}

/* Run a command on a file that is written in another way. */
static int run_written_by(__typeof__(failing.ops.pwrite) pwrite, MemFile *file, const Step *command,
                          bool *ret_unknown)
{
    failing.usual = file->base.ops;
    failing.ops = *file->base.ops;
    failing.ops.pwrite = pwrite;
    failing.ops.pread = read_or_fail;
    headers_written = 0;
    file->base.ops = &failing.ops;
    int r = script_run(file, command, ret_unknown);
    file->base.ops = failing.usual;
    return r;
}

/*
 * A write of the header that fails, but not before it has written, is taken back like any other;
 * and where nobody can see what came of it, too.
 */

static ssize_t write_second_header_and_fail(QcFile *file, const void *buf, size_t len,
                                            uint64_t offset)
{
    ssize_t n = failing.usual->pwrite(file, buf, len, offset);
    return offset == 0 && ++headers_written == 2 ? -EIO : n;
}

Test(crash, a_header_that_is_there_although_its_write_failed_is_taken_back)
{
    const Sample *s = sample_named("v3-4k");
    for (unsigned n = 0; n < 2 * sample_n_commands(s); n++) {
        unsigned i = n / 2;
        MemFile *file = sample_make_for(s, gate, i);
        g_autofree char *before = judge_digest(file), *was_wrong = judge_check(file);
        Step c = sample_command(s, i);
        bool unknown;
        reads_fail = n % 2;
        cr_expect_eq(-EIO, run_written_by(write_second_header_and_fail, file, &c, &unknown));
        cr_expect_not(unknown);
        g_autofree char *now = judge_digest(file), *wrong = judge_check(file);
        cr_expect(g_strcmp0(wrong, was_wrong) == 0, "%s: %s", sample_command_name(s, i), wrong);
        cr_expect_str_eq(now, before, "%s", sample_command_name(s, i));
        qc_file_unref(mem_file(file));
    }
    reads_fail = false;
}

/* One that nothing came of needs nothing to be put back: a file that cannot be written any more is
 * what it was. */
static ssize_t refuse_second_header(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    headers_written += offset == 0;
    return headers_written > 1 ? -ENOSPC : failing.usual->pwrite(file, buf, len, offset);
}

Test(crash, a_header_that_cannot_be_written_at_all_is_the_old_one)
{
    const Sample *s = sample_named("v3-4k");
    for (unsigned i = 0; i < sample_n_commands(s); i++) {
        MemFile *file = sample_make_for(s, gate, i);
        g_autofree char *before = judge_digest(file);
        Step c = sample_command(s, i);
        bool unknown;
        cr_expect_eq(-ENOSPC, run_written_by(refuse_second_header, file, &c, &unknown), "%s",
                     sample_command_name(s, i));
        cr_expect_not(unknown, "%s", sample_command_name(s, i));
        cr_expect_eq(headers_written, 2, "%s", sample_command_name(s, i));
        g_autofree char *now = judge_digest(file);
        cr_expect_str_eq(now, before, "%s", sample_command_name(s, i));
        qc_file_unref(mem_file(file));
    }
}

/* The samples that are to be at an edge are there. */
Test(crash, tables_grow_where_they_have_to)
{
    static const struct {
        const char *name;
        size_t field; /* of the header, 4 bytes */
    } grows[] = {{"v3-512-table-full", 56}, {"v3-512-limit-last", 60}};
    for (size_t i = 0; i < G_N_ELEMENTS(grows); i++) {
        const Sample *s = sample_named(grows[i].name);
        MemFile *file = sample_make(s, gate);
        Step take = sample_command(s, 0);
        be32 old, new;
        bool unknown;
        memcpy(&old, file->data->data + grows[i].field, sizeof(old));
        cr_assert_eq(0, script_run(file, &take, &unknown));
        memcpy(&new, file->data->data + grows[i].field, sizeof(new));
        cr_expect_eq(be32_get(new), be32_get(old) + 1, "%s", s->kind.name);
        cr_expect(i == 0 || be32_get(new) == QC_MAX_SNAPSHOTS);
        qc_file_unref(mem_file(file));
    }
}

static uint64_t snapshot_table_bytes(MemFile *file)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    return o.image->snapshots_end - o.image->header.snapshots_offset;
}

Test(crash, the_last_slot_of_the_snapshot_table_is_the_last)
{
    static const struct {
        const char *name;
        uint64_t before, after;
    } tables[] = {{"v3-512-slot-last", 440, 512}, {"v3-512-slot-none", 480, 552}};
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        const Sample *s = sample_named(tables[i].name);
        MemFile *file = sample_make(s, gate);
        Step take = sample_command(s, 0);
        bool unknown;
        cr_expect_eq(snapshot_table_bytes(file), tables[i].before);
        cr_assert_eq(0, script_run(file, &take, &unknown));
        cr_expect_eq(snapshot_table_bytes(file), tables[i].after);
        qc_file_unref(mem_file(file));
    }
}
