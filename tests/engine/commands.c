/*
 * Random walks of commands over images of every kind, against a model. After each command
 * the judge finds the image clean, and every disk in it reads as the model says.
 */
#include "craft.h"
#include "format.h"
#include "judge.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>

enum {
    STEPS = 40,
    MAX_SNAPSHOTS = 5,
};

/* What the image should hold. */
typedef struct Model {
    uint64_t size;
    uint8_t *disk;
    unsigned n;
    char *names[MAX_SNAPSHOTS];
    uint8_t *disks[MAX_SNAPSHOTS];
} Model;

static char *model_digest(const Model *m)
{
    GString *out = g_string_new(NULL);
    judge_digest_line(out, "disk", m->disk, m->size);
    for (unsigned i = 0; i < m->n; i++)
        judge_digest_line(out, m->names[i], m->disks[i], m->size);
    return g_string_free(out, FALSE);
}

static void model_run(Model *m, const Step *c)
{
    switch (c->kind) {
    case STEP_TAKE:
        m->names[m->n] = g_strdup(c->name);
        m->disks[m->n++] = g_memdup2(m->disk, m->size);
        break;
    case STEP_REVERT:
        memcpy(m->disk, m->disks[c->snapshot], m->size);
        break;
    case STEP_DELETE:
        g_free(m->names[c->snapshot]);
        g_free(m->disks[c->snapshot]);
        m->n--;
        for (unsigned i = c->snapshot; i < m->n; i++) {
            m->names[i] = m->names[i + 1];
            m->disks[i] = m->disks[i + 1];
        }
        break;
    case STEP_RENAME:
        g_free(m->names[c->snapshot]);
        m->names[c->snapshot] = g_strdup(c->name);
        break;
    case STEP_REPAIR:
        break;
    case STEP_WRITE:
        for (uint64_t i = 0; i < c->len; i++)
            m->disk[c->offset + i] = step_byte(c, i);
        break;
    }
}

static void model_clear(Model *m)
{
    for (unsigned i = 0; i < m->n; i++) {
        g_free(m->names[i]);
        g_free(m->disks[i]);
    }
    g_free(m->disk);
}

/* A command that the model says is possible. */
static Step pick(const Model *m, unsigned max_snapshots, GRand *rand, char *name)
{
    Step c = {.kind = (StepKind)g_rand_int_range(rand, 0, 5), .name = name};
    if (c.kind == STEP_TAKE && m->n == max_snapshots)
        c.kind = STEP_WRITE;
    if (c.kind != STEP_TAKE && m->n == 0)
        c.kind = STEP_WRITE;
    if (m->n > 0)
        c.snapshot = (unsigned)g_rand_int_range(rand, 0, (gint32)m->n);
    c.offset = (uint64_t)g_rand_int_range(rand, 0, (gint32)m->size - 1);
    c.len = (uint64_t)g_rand_int_range(rand, 1, (gint32)MIN(m->size - c.offset, 200000) + 1);
    c.seed = (uint8_t)g_rand_int(rand);
    g_snprintf(name, 32, "s%u", g_rand_int(rand));
    return c;
}

static void expect_agreement(MemFile *file, const Model *m, const char *kind, unsigned step)
{
    g_autofree char *wrong = judge_check(file), *got = judge_digest(file);
    g_autofree char *want = model_digest(m);
    cr_assert_null(wrong, "%s step %u: %s", kind, step, wrong);
    cr_assert_str_eq(got, want, "%s step %u", kind, step);
}

static void walk(const Kind *kind, unsigned seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    Model m = {.size = 700 * 1024 + 512};
    m.disk = g_malloc0(m.size);
    MemFile *file = script_image(kind, m.size);
    /* A 2-bit count reaches 3: the active disk and two snapshots. */
    unsigned max = kind->refcount_bits == 2 ? 2 : MAX_SNAPSHOTS;
    for (unsigned step = 0; step < STEPS; step++) {
        char name[32];
        bool unknown;
        Step c = pick(&m, max, rand, name);
        int err = script_run(file, &c, &unknown);
        cr_assert_eq(err, 0, "%s step %u command %d: %d", kind->name, step, c.kind, err);
        model_run(&m, &c);
        expect_agreement(file, &m, kind->name, step);
    }
    model_clear(&m);
    g_rand_free(rand);
    qc_file_unref(mem_file(file));
}

Test(commands, random_walks_agree_with_the_model)
{
    for (size_t i = 0; i < script_n_kinds; i++)
        for (unsigned seed = 1; seed <= 2; seed++)
            walk(&script_kinds[i], seed);
}

Test(commands, space_of_deleted_snapshots_is_used_again)
{
    MemFile *file = script_image(&script_kinds[1], 8 << 20);
    bool unknown;
    uint64_t after_first = 0;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_WRITE, .len = 4 << 20}, &unknown));
    for (unsigned i = 0; i < 50; i++) {
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "x"}, &unknown));
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_DELETE}, &unknown));
        if (i == 1)
            after_first = file->data->len;
    }
    cr_assert_eq(file->data->len, after_first);
    qc_file_unref(mem_file(file));
}

Test(commands, refusals_change_nothing)
{
    MemFile *file = script_image(&script_kinds[2], 1 << 20); /* counts up to 3 */
    bool unknown;
    g_autofree char *long_name = g_strnfill(256, 'x');
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_WRITE, .len = 4096}, &unknown));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "a"}, &unknown));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "b"}, &unknown));
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_byte_array_append(before, file->data->data, file->data->len);

    struct {
        Step command;
        int err;
    } cases[] = {
        {{.kind = STEP_TAKE, .name = "a"}, -EEXIST},
        {{.kind = STEP_TAKE, .name = ""}, -EINVAL},
        {{.kind = STEP_TAKE, .name = long_name}, -ENAMETOOLONG},
        {{.kind = STEP_TAKE, .name = "c"}, -EFBIG},
        {{.kind = STEP_REVERT, .snapshot = 2}, -ENOENT},
        {{.kind = STEP_DELETE, .snapshot = 2}, -ENOENT},
        {{.kind = STEP_RENAME, .snapshot = 2, .name = "z"}, -ENOENT},
        {{.kind = STEP_RENAME, .snapshot = 0, .name = "b"}, -EEXIST},
        {{.kind = STEP_WRITE, .offset = 1 << 20, .len = 1}, -EINVAL},
        {{.kind = STEP_WRITE, .offset = (1 << 20) + 1, .len = 1}, -EINVAL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        cr_assert_eq(cases[i].err, script_run(file, &cases[i].command, &unknown), "case %zu", i);
        cr_assert_not(unknown);
        cr_assert_eq(before->len, file->data->len, "case %zu", i);
    }
    g_autofree char *wrong = judge_check(file);
    cr_assert_null(wrong, "%s", wrong);
    qc_file_unref(mem_file(file));
}

Test(commands, one_bit_refcounts_are_refused)
{
    Kind kind = {"1bit", 3, 16, 1, false};
    MemFile *file = script_image(&kind, 1 << 20);
    bool unknown;
    Step take = {.kind = STEP_TAKE, .name = "a"};
    cr_assert_eq(-EOPNOTSUPP, script_run(file, &take, &unknown));
    qc_file_unref(mem_file(file));
}

/* Take a snapshot with a date; ret: the date that the image then has. */
static int take_at(MemFile *file, int64_t now_ns, int64_t *ret)
{
    g_auto(Opened) before = opened_new(mem_file(file), NULL);
    int err = qc_snapshot_take(before.image, "dated", now_ns, NULL, NULL);
    if (err < 0)
        return err;
    g_auto(Opened) after = opened_new(mem_file(file), NULL);
    const QcSnapshot *s = qc_image_info(after.image)->snapshots;
    *ret = s->date_sec * 1000000000 + s->date_nsec;
    return 0;
}

Test(commands, a_date_that_the_entry_cannot_hold_is_refused)
{
    static const int64_t end = (INT64_C(1) << 32) * 1000000000;
    static const struct {
        int64_t date;
        int err;
    } cases[] = {
        {INT64_MIN, -EINVAL}, {-1, -EINVAL},  {0, 0},
        {end - 1, 0},         {end, -EINVAL}, {INT64_MAX, -EINVAL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *file = script_image(&script_kinds[1], 1 << 20);
        int64_t date = cases[i].date;
        cr_expect_eq(cases[i].err, take_at(file, cases[i].date, &date), "case %zu", i);
        cr_expect_eq(date, cases[i].date, "case %zu", i);
        qc_file_unref(mem_file(file));
    }
}

/* Find the encoded entry of a snapshot by its name, in a file with one snapshot of that name. */
static uint8_t *entry_named(MemFile *file, const char *name)
{
    uint8_t *at = memmem(file->data->data, file->data->len, name, strlen(name));
    cr_assert_not_null(at);
    return at - 1 - 24 - 40; /* an id of one digit, three words of extra data, the fixed part */
}

Test(commands, an_id_that_is_no_number_does_not_block_new_ones)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
    entry_named(file, "first")[40 + 24] = '-';
    cr_expect_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "b"}, &unknown));
    qc_file_unref(mem_file(file));
}

/* The ids that a few snapshots have, from the second digit of a 10 on, are replaced by these. */
static void expect_take_after_id(const char *id, int result)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    size_t len = strlen(id);
    bool unknown;
    cr_assert_eq(0,
                 script_run(file, &(Step){.kind = STEP_TAKE, .name = "first name, which is long"},
                            &unknown));
    uint8_t *entry = entry_named(file, "first name, which is long");
    memcpy(entry + 40 + 24, id, len); /* it grows into the name */
    entry[13] = (uint8_t)len;
    entry[15] = (uint8_t)(1 + strlen("first name, which is long") - len);
    cr_expect_eq(result, script_run(file, &(Step){.kind = STEP_TAKE, .name = "b"}, &unknown), "%s",
                 id);
    qc_file_unref(mem_file(file));
}

Test(commands, an_id_is_one_more_than_the_highest_number)
{
    expect_take_after_id("-1", 0); /* which strtoull() takes for the highest there is */
    expect_take_after_id("18446744073709551614", 0);
    expect_take_after_id("18446744073709551615", -EFBIG);
}

/* Nobody but who knows a feature may leave its bit when he has changed the image. */
Test(commands, unknown_autoclear_bits_are_cleared)
{
    static const Step commands[] = {
        {.kind = STEP_TAKE, .name = "b"},
        {.kind = STEP_REVERT},
        {.kind = STEP_DELETE},
        {.kind = STEP_RENAME, .name = "c"},
        {.kind = STEP_WRITE, .len = 4096},
        {.kind = STEP_REPAIR},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        MemFile *file = script_image(&script_kinds[4], 1 << 20);
        bool unknown;
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "a"}, &unknown));
        mem_file_put_word(file, 88, UINT64_C(1) << 63 | 1 << 7);
        if (commands[i].kind == STEP_REPAIR)
            craft_leak(file);
        cr_assert_eq(0, script_run(file, &commands[i], &unknown));
        cr_expect_eq(mem_file_word(file, 88), 0, "command %zu", i);
        qc_file_unref(mem_file(file));
    }
}

/* Version 2 has no feature bits: in their place are extensions, or a name. */
Test(commands, the_header_of_version_2_keeps_what_is_behind_it)
{
    static const Step commands[] = {
        {.kind = STEP_TAKE, .name = "b"},   {.kind = STEP_REVERT}, {.kind = STEP_DELETE},
        {.kind = STEP_RENAME, .name = "c"}, {.kind = STEP_REPAIR},
    };
    const QcCreateOptions options = {.virtual_size = 1 << 20,
                                     .version = 2,
                                     .cluster_bits = 12,
                                     .refcount_bits = 16,
                                     .backing_file = "base.raw",
                                     .backing_format = "raw"};
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        MemFile *file = mem_file_new(NULL, 0);
        bool unknown;
        cr_assert_eq(0, qc_create(mem_file(file), &options, NULL));
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "a"}, &unknown));
        g_autofree uint8_t *before =
            g_memdup2(file->data->data + QC_V2_HEADER_LENGTH, 4096 - QC_V2_HEADER_LENGTH);
        cr_assert_neq(before[0], 0, "an extension");
        cr_assert_eq(0, script_run(file, &commands[i], &unknown));
        cr_expect_arr_eq(file->data->data + QC_V2_HEADER_LENGTH, before, 4096 - QC_V2_HEADER_LENGTH,
                         "command %zu", i);
        qc_file_unref(mem_file(file));
    }
}

/* A name of as many bytes as there may be; and what QEMU takes for "not recorded" is stored so. */
Test(commands, the_longest_name_is_taken_and_no_instruction_count)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    g_autofree char *name = g_strnfill(255, 'x');
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = name}, &unknown));
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_assert_eq(1, qc_image_info(o.image)->n_snapshots);
    cr_expect_str_eq(name, qc_image_info(o.image)->snapshots[0].name);
    cr_expect_eq(UINT64_MAX, qc_image_info(o.image)->snapshots[0].icount);
    qc_file_unref(mem_file(file));
}

/* What was read before a command is of no use to another one. */
Test(commands, an_image_is_for_one_command)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_assert_eq(0, qc_snapshot_take(o.image, "a", 0, NULL, NULL));
    cr_expect_eq(-EINVAL, qc_snapshot_take(o.image, "b", 0, NULL, NULL));
    cr_expect_eq(-EINVAL, qc_image_check(o.image, NULL, &(QcCheck){0}, NULL));
    g_autofree char *wrong = judge_check(file);
    cr_expect_null(wrong, "%s", wrong);
    qc_file_unref(mem_file(file));
}

/* A backup that goes by them would leave out what has changed. */
Test(commands, who_does_not_keep_bitmaps_true_is_refused)
{
    static const Step refused[] = {{.kind = STEP_REVERT}, {.kind = STEP_WRITE, .len = 4096}};
    MemFile *file = script_image(&script_kinds[4], 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "a"}, &unknown));
    craft_bitmap(file);
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_byte_array_append(before, file->data->data, file->data->len);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        cr_expect_eq(-EOPNOTSUPP, script_run(file, &refused[i], &unknown), "command %zu", i);
        cr_assert_eq(before->len, file->data->len);
        cr_expect_eq(0, memcmp(before->data, file->data->data, before->len));
    }
    qc_file_unref(mem_file(file));
}

/* Nothing that happens to be in memory gets into an image: memory is not zeros here. */
Test(commands, what_pads_a_table_is_zeros)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    static const uint8_t zeros[1 << 16];
    mallopt(M_PERTURB, 0xa5);
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    MemFile *file = script_image(&kind, 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    uint64_t used = qc_padded(sizeof(QcDiskSnapshot) + sizeof(QcDiskSnapshotExtra) + 1 + 5);
    cr_expect_arr_eq(file->data->data + l1 + 8, zeros, sizeof(zeros) - 8);
    cr_expect_arr_eq(file->data->data + table + used, zeros, sizeof(zeros) - used);
    qc_file_unref(mem_file(file));
}

/* What is written does not reach past the disk, where a resize would show it. */
Test(commands, behind_the_end_of_the_disk_are_zeros)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    static const uint8_t zeros[1 << 16];
    MemFile *file = script_image(&kind, 100 << 10);
    uint8_t bytes[1 << 16];
    bool unknown;
    Step all = {.kind = STEP_WRITE, .len = 100 << 10, .seed = 1};
    cr_assert_eq(0, script_run(file, &all, &unknown));
    craft_resize(file, 128 << 10);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_assert_eq(28 << 10, qc_view_read(o.view, bytes, sizeof(bytes), 100 << 10));
    cr_expect_arr_eq(bytes, zeros, 28 << 10);
    qc_file_unref(mem_file(file));
}

static uint32_t l1_entries(const MemFile *file)
{
    return (uint32_t)mem_file_word(file, offsetof(QcDiskHeader, crypt_method));
}

/* It lies behind the disk in the L1 table, where a disk that was resumed has it, too. */
Test(commands, a_vm_state_stays_with_its_snapshot)
{
    static const Kind kind = {"v3-512", 3, 9, 16, false};
    static const Step steps[] = {
        {.kind = STEP_TAKE, .name = "without"},
        {.kind = STEP_REVERT},
        {.kind = STEP_DELETE},
    };
    MemFile *file = script_image(&kind, 128 << 10);
    uint32_t needed = l1_entries(file);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_WRITE, .len = 128 << 10}, &unknown));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "with"}, &unknown));
    craft_vm_state(file, 0, 3, true);
    cr_assert_gt(l1_entries(file), needed);
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        cr_assert_eq(0, script_run(file, &steps[i], &unknown), "step %zu", i);
        g_autofree char *wrong = judge_check(file);
        cr_assert_null(wrong, "step %zu: %s", i, wrong);
    }
    cr_expect_eq(l1_entries(file), needed, "the disk that was gone back to has none");
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_image_info(o.image)->snapshots[0].l1_entries, needed);
    qc_file_unref(mem_file(file));
}

typedef struct Guard {
    const MemFile *file;
    unsigned calls, refuse_at;
    guint done[2]; /* operations on the file before each call */
} Guard;

static int guard(void *data)
{
    Guard *g = data;
    g->done[g->calls % 2] = g->file->log->len;
    return ++g->calls == g->refuse_at ? -EACCES : 0;
}

static int take_guarded(MemFile *file, Guard *g)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    g->file = file;
    mem_file_record(file);
    QcRun run = {.guard = guard, .guard_data = g};
    return qc_snapshot_take(o.image, "a", 0, &run, NULL);
}

/* Before the first write, and when all is written but the sector that makes the change. */
Test(commands, a_guard_is_asked_twice)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    Guard g = {0};
    cr_assert_eq(0, take_guarded(file, &g));
    cr_expect_eq(2, g.calls);
    cr_expect_eq(1, g.done[0], "the first sync");
    cr_expect_eq(file->log->len, g.done[1] + 2, "a write and a sync");
    qc_file_unref(mem_file(file));
}

Test(commands, a_guard_that_refuses_leaves_the_image_as_it_is)
{
    for (unsigned at = 1; at <= 2; at++) {
        MemFile *file = script_image(&script_kinds[1], 1 << 20);
        Guard g = {.refuse_at = at};
        g_autofree char *before = judge_digest(file);
        cr_expect_eq(-EACCES, take_guarded(file, &g));
        g_autofree char *after = judge_digest(file), *wrong = judge_check(file);
        cr_expect_str_eq(after, before);
        cr_expect_null(wrong, "%s", wrong);
        qc_file_unref(mem_file(file));
    }
}

Test(commands, a_revert_does_not_resize_other_snapshots)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20); /* version 2 */
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "other"}, &unknown));
    entry_named(file, "first")[40 + 13] = 0x08; /* it states half the disk's size */
    Step revert = {.kind = STEP_REVERT, .snapshot = 0};
    MemFile *stated = mem_file_copy(file);
    cr_expect_eq(0, script_run(stated, &revert, &unknown));
    entry_named(file, "other")[39] = 8; /* extra data without a size; the id is garbage then */
    cr_expect_eq(-EOPNOTSUPP, script_run(file, &revert, &unknown));
    qc_file_unref(mem_file(stated));
    qc_file_unref(mem_file(file));
}

/* An entry of version 3 that does not state its size gets it, whatever the revert does to the disk.
 */
Test(commands, a_revert_completes_other_snapshots)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    MemFile *file = script_image(&kind, 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "other"}, &unknown));
    entry_named(file, "first")[40 + 13] = 0x08; /* it states half the disk's size */
    uint8_t *other = entry_named(file, "other");
    other[39] = 8; /* extra data without a size; the id is garbage then */
    cr_expect_eq(0, script_run(file, &(Step){.kind = STEP_REVERT, .snapshot = 0}, &unknown));
    cr_expect_eq(script_size(file), 512 << 10);

    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_image_info(o.image)->snapshots[1].disk_size, 1 << 20);
    cr_expect(qc_image_info(o.image)->snapshots[1].size_stated);
    qc_file_unref(mem_file(file));
}

/* QEMU works with whole sectors, and cannot apply a snapshot of a disk that ends within one. */
Test(commands, a_disk_that_ends_within_a_sector_is_of_whole_sectors)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        MemFile *file = script_image(&script_kinds[i], 300 << 10);
        bool unknown;
        craft_resize(file, (300 << 10) - 100);
        uint64_t whole = (300 << 10) - 512;
        Step beyond = {.kind = STEP_WRITE, .offset = whole, .len = 1};
        cr_expect_eq(-EINVAL, script_run(file, &beyond, &unknown));
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_WRITE, .len = whole}, &unknown));
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
        be64 stated;
        memcpy(&stated, entry_named(file, "first") + 40 + 8, sizeof(stated));
        cr_expect_eq(be64_get(stated), whole);

        g_autofree char *digest = judge_digest(file), *wrong = judge_check(file);
        cr_expect_null(wrong, "%s", wrong);
        cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
        cr_expect_eq(script_size(file), whole);
        g_autofree char *now = judge_digest(file);
        cr_expect_str_eq(now, digest);
        qc_file_unref(mem_file(file));
    }
}

/* So our own earlier takes left it. */
Test(commands, a_snapshot_of_part_of_a_sector_is_of_whole_sectors)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "first"}, &unknown));
    uint8_t *entry = entry_named(file, "first");
    be64 odd = be64_make((1 << 20) - 100);
    memcpy(entry + 40 + 8, &odd, sizeof(odd));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
    cr_expect_eq(script_size(file), (1 << 20) - 512);
    qc_file_unref(mem_file(file));
}

Test(commands, a_new_disk_is_of_whole_sectors)
{
    MemFile *file = script_image(&script_kinds[1], 1000);
    cr_expect_eq(script_size(file), 1024);
    qc_file_unref(mem_file(file));
}

/* Its old place may be anything by then. */
Test(commands, without_snapshots_there_is_no_table_of_them)
{
    MemFile *file = script_image(&script_kinds[1], 1 << 20);
    bool unknown;
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_TAKE, .name = "only"}, &unknown));
    cr_expect_neq(0, mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)));
    cr_assert_eq(0, script_run(file, &(Step){.kind = STEP_DELETE}, &unknown));
    cr_expect_eq(0, mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)));
    qc_file_unref(mem_file(file));
}
