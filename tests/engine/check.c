/* Finding what is wrong with an image, and mending what can be mended. */
#include "checked.h"
#include "craft.h"
#include "format.h"
#include <errno.h>
#include <string.h>

static void mark_dirty(MemFile *file)
{
    mem_file_put_word(file, offsetof(QcDiskHeader, incompatible_features),
                      mem_file_word(file, offsetof(QcDiskHeader, incompatible_features)) |
                          QC_INCOMPAT_DIRTY);
}

Test(check, clean_images_of_every_kind)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        MemFile *file = prepared(&script_kinds[i]);
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* Fill refcount bytes with a value: some clusters leak, others lose their protection. */
static void spoil_refcounts(MemFile *file, uint8_t value)
{
    memset(file->data->data + first_refcount_block(file), value, 64);
}

Test(check, wrong_refcounts_are_found_and_mended)
{
    static const uint8_t values[] = {0x00, 0x11, 0xff};
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t v = 0; v < G_N_ELEMENTS(values); v++) {
            MemFile *file = prepared(&script_kinds[i]);
            g_autofree char *digest = judge_digest(file);
            spoil_refcounts(file, values[v]);
            QcCheck result = check(file);
            cr_expect_gt(result.errors + result.leaks, 0);
            cr_expect_eq(0, repair(file));
            expect_clean(file, digest);
            qc_file_unref(mem_file(file));
        }
    }
}

Test(check, a_repair_tells_what_it_mended)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        MemFile *file = prepared(&script_kinds[i]);
        QcCheck found, again;
        spoil_refcounts(file, 0x11);
        QcCheck result = check(file);
        cr_assert_eq(0, repair_finding(file, &found));
        cr_expect_eq(found.errors, result.errors);
        cr_expect_eq(found.leaks, result.leaks);
        cr_expect_str_eq(found.first, result.first);
        cr_assert_eq(0, repair_finding(file, &again));
        cr_expect_eq(again.errors + again.leaks, 0);
        qc_file_unref(mem_file(file));
    }
}

Test(check, a_repair_of_a_clean_image_writes_nothing)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        MemFile *file = prepared(&script_kinds[i]);
        mem_file_record(file);
        cr_expect_eq(0, repair(file));
        for (guint k = 0; k < file->log->len; k++)
            cr_expect_eq(g_array_index(file->log, MemOp, k).kind, MEM_SYNC);
        qc_file_unref(mem_file(file));
    }
}

/* The stored refcounts may lie where the storage gives nothing back: they are written anew. */
Test(check, a_repair_does_not_need_the_stored_refcounts)
{
    MemFile *before = prepared(&script_kinds[0]);
    g_autofree char *digest = judge_digest(before);
    unsigned told = 0;
    bool reached = true;
    for (int64_t n = 0; reached; n++) {
        MemFile *file = mem_file_copy(before);
        QcCheck found = {0};
        file->fail_at = n;
        file->fail_error = -EIO;
        int err = repair_finding(file, &found);
        reached = file->calls > n;
        if (err < 0)
            cr_expect_str_empty(found.first, "nothing was mended");
        file->fail_at = -1;
        if (!err && g_strcmp0(found.first, "the refcounts cannot be read") == 0) {
            told++;
            expect_clean(file, digest);
        }
        qc_file_unref(mem_file(file));
    }
    cr_expect_gt(told, 0);
    qc_file_unref(mem_file(before));
}

/* All counts are lost, with the blocks that they were in. */
Test(check, a_refcount_table_without_blocks_is_mended)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        MemFile *file = prepared(&script_kinds[i]);
        g_autofree char *digest = judge_digest(file);
        uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
        Step take = {.kind = STEP_TAKE, .name = "two"};
        bool unknown;
        for (; mem_file_word(file, at); at += 8)
            mem_file_put_word(file, at, 0);
        QcCheck found, result = check(file);
        uint64_t n, used = 0;
        g_autofree uint32_t *refs = judge_references(file, &n);
        for (uint64_t c = 0; c < n; c++)
            used += refs[c] > 0;
        cr_expect_geq(result.errors, used, "each cluster that is used has no count");
        cr_expect_eq(result.leaks, 0, "what is not stored is not lost");
        cr_expect_eq(-EUCLEAN, script_run(file, &take, &unknown));
        cr_expect_eq(0, repair_finding(file, &found));
        cr_expect_eq(found.errors, result.errors);
        expect_clean(file, digest);
        qc_file_unref(mem_file(file));
    }
}

Test(check, a_command_on_a_dirty_image_repairs_it_in_the_same_switch)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        if (script_kinds[i].version < 3)
            continue; /* has no dirty mark */
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            mark_dirty(file);
            spoil_refcounts(file, 0);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            cr_expect_eq(0, mem_file_word(file, offsetof(QcDiskHeader, incompatible_features)) &
                                QC_INCOMPAT_DIRTY);
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

/* It would set the flags of some tables only, which may be wrong in all. */
Test(check, a_write_to_a_dirty_image_is_refused)
{
    static const Step write = {.kind = STEP_WRITE, .len = 1000, .seed = 3};
    MemFile *file = prepared(&script_kinds[4]);
    bool unknown;
    mark_dirty(file);
    cr_expect_eq(-EUCLEAN, script_run(file, &write, &unknown));
    cr_expect_eq(0, repair(file));
    cr_expect_eq(0, script_run(file, &write, &unknown));
    expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
}

/* The last snapshot is forgotten without a look at the refcounts, as by a killed writer. */
static void lose_snapshot(MemFile *file)
{
    static const Step take = {.kind = STEP_TAKE, .name = "lost"};
    size_t at = offsetof(QcDiskHeader, nb_snapshots);
    be32 n;
    bool unknown;
    cr_assert_eq(0, script_run(file, &take, &unknown));
    memcpy(&n, file->data->data + at, sizeof(n));
    n = be32_make(be32_get(n) - 1);
    memcpy(file->data->data + at, &n, sizeof(n));
}

Test(check, a_command_gives_lost_space_back)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            lose_snapshot(file);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 0, "%s", before.first);
            cr_expect_gt(before.leaks, 0);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

/* A table is no hole when its first blocks are. */
Test(check, a_table_that_begins_with_a_hole_is_counted)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    static const Step write = {.kind = STEP_WRITE, .offset = 33 << 20, .len = 1000, .seed = 3};
    MemFile *file = script_image(&kind, 40 << 20);
    bool unknown;
    file->sparse = true;
    cr_assert_eq(0, script_run(file, &write, &unknown));
    g_autofree char *wrong = judge_check(file);
    cr_expect_null(wrong, "%s", wrong);
    for (size_t c = 0; c < 2; c++) {
        Step step = c ? write : (Step){.kind = STEP_TAKE, .name = "one"};
        QcCheck result = check(file);
        cr_expect_eq(result.errors + result.leaks, 0, "%s", result.first);
        cr_assert_eq(0, script_run(file, &step, &unknown));
        g_autofree char *now = judge_check(file);
        cr_expect_null(now, "%s", now);
    }
    qc_file_unref(mem_file(file));
}

Test(check, compressed_clusters_that_reach_into_the_next_are_counted)
{
    static const Kind small[] = {{"v2-512", 2, 9, 16, false}, {"v3-512-64bit", 3, 9, 64, false}};
    for (size_t i = 0; i < G_N_ELEMENTS(small); i++) {
        MemFile *file = prepared(&small[i]);
        craft_compress(file, 0, 200);
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* A file system that calls a hole what it has not written yet, as OpenZFS did, is asked to write.
 */
Test(check, a_table_in_a_false_hole_is_counted)
{
    static const Step every[] = {
        {.kind = STEP_TAKE, .name = "two"},
        {.kind = STEP_REVERT},
        {.kind = STEP_DELETE},
        {.kind = STEP_RENAME, .name = "eins"},
        {.kind = STEP_WRITE, .len = 1000, .seed = 3},
        {.kind = STEP_REPAIR},
    };
    static const Kind kind = {"v3-4k", 3, 12, 16, false};
    for (size_t c = 0; c < G_N_ELEMENTS(every); c++) {
        MemFile *file = prepared(&kind);
        uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
        bool unknown;
        file->late = mem_file_word(file, l1) & QC_OFFSET_MASK;
        QcCheck before = check(file);
        cr_expect_eq(before.errors + before.leaks, 0, "%s", before.first);
        file->late = mem_file_word(file, l1) & QC_OFFSET_MASK;
        cr_expect_eq(0, script_run(file, &every[c], &unknown));
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* The counts are of clusters that lie elsewhere. */
Test(check, an_image_with_a_data_file_is_not_checked)
{
    MemFile *file = prepared(&script_kinds[4]);
    mem_file_put_word(file, offsetof(QcDiskHeader, incompatible_features), QC_INCOMPAT_DATA_FILE);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    QcCheck result;
    cr_expect_eq(-EOPNOTSUPP, qc_image_check(o.image, NULL, &result, NULL));
    qc_file_unref(mem_file(file));
}

/* There are so many that refcount blocks count nothing else. */
Test(check, leaks_are_found_where_nothing_is_used)
{
    enum { LEAKS = 200, IN_BLOCK = 64 };
    static const Kind kind = {"v3-512-64bit", 3, 9, 64, false};
    MemFile *file = prepared(&kind);
    g_autofree char *digest = judge_digest(file);
    G_STATIC_ASSERT(LEAKS > 2 * IN_BLOCK);
    craft_leaks(file, LEAKS);
    cr_expect_eq(check(file).leaks, LEAKS + 1); /* and one cluster that is used */
    cr_expect_eq(0, repair(file));
    expect_clean(file, digest);
    qc_file_unref(mem_file(file));
}

/* It sets the flags of the tables that it changes, not of all, so the counts must stay. */
Test(check, a_write_leaves_lost_space_alone)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        static const Step write = {.kind = STEP_WRITE, .len = 1000, .seed = 3};
        MemFile *file = prepared(&script_kinds[i]);
        bool unknown;
        lose_snapshot(file);
        cr_expect_eq(0, script_run(file, &write, &unknown));
        QcCheck after = check(file);
        cr_expect_eq(after.errors, 0, "%s", after.first);
        cr_expect_gt(after.leaks, 0);
        cr_expect_eq(0, repair(file));
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

Test(check, an_image_marked_corrupt_is_refused_until_repaired)
{
    MemFile *file = prepared(&script_kinds[4]);
    Step take = {.kind = STEP_TAKE, .name = "two"};
    bool unknown;
    mem_file_put_word(file, offsetof(QcDiskHeader, incompatible_features), QC_INCOMPAT_CORRUPT);
    cr_expect_eq(-EUCLEAN, script_run(file, &take, &unknown));
    cr_expect_eq(0, repair(file));
    cr_expect_eq(0, script_run(file, &take, &unknown));
    expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
}

Test(check, power_cuts_during_a_repair, .timeout = 120)
{
    MemFile *before = prepared(&script_kinds[5]);
    g_autofree char *digest = judge_digest(before);
    spoil_refcounts(before, 0x11);
    MemFile *after = mem_file_copy(before);
    mem_file_record(after);
    cr_assert_eq(0, repair(after));
    for (guint end = 0; end <= after->log->len; end++) {
        MemFile *state = mem_file_copy(before);
        for (guint i = 0; i < end; i++) {
            const MemOp *op = &g_array_index(after->log, MemOp, i);
            mem_file_apply(state, op, op->size);
        }
        g_autofree char *now = judge_digest(state);
        cr_expect_str_eq(now, digest);
        if (end >= after->log->len - 1)
            expect_clean(state, digest);
        qc_file_unref(mem_file(state));
    }
    qc_file_unref(mem_file(after));
    qc_file_unref(mem_file(before));
}

/* A cluster that only another snapshot uses is counted as free: nothing may be written there. */
Test(check, no_command_gives_out_what_another_snapshot_uses)
{
    static const Step commands[] = {
        {.kind = STEP_TAKE, .name = "two"},
        {.kind = STEP_RENAME, .name = "eins"},
        {.kind = STEP_WRITE, .offset = 0, .len = 4096},
    };
    MemFile *file = prepared(&script_kinds[1]); /* 64 KiB clusters, 16-bit counts */
    g_autofree char *digest = judge_digest(file);
    uint64_t l1 =
        mem_file_word(file, mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)));
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    /* The active disk has overwritten the third cluster: the snapshot alone has the old one. */
    uint64_t data = mem_file_word(file, l2 + 2 * 8) & QC_OFFSET_MASK;
    memset(file->data->data + first_refcount_block(file) + (data >> 16) * 2, 0, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        MemFile *copy = mem_file_copy(file);
        bool unknown;
        cr_expect_eq(-EUCLEAN, script_run(copy, &commands[i], &unknown), "command %zu", i);
        g_autofree char *now = judge_digest(copy);
        cr_expect_str_eq(now, digest);
        qc_file_unref(mem_file(copy));
    }
    qc_file_unref(mem_file(file));
}

/* A refcount table full of blocks that count nothing costs no memory and no space. */
Test(check, a_repair_drops_refcount_blocks_that_count_nothing)
{
    MemFile *file = prepared(&script_kinds[1]);
    uint64_t table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    uint64_t end = (file->data->len + 65535) / 65536 * 65536, size = end + 20 * 65536;
    guint old = file->data->len;
    g_byte_array_set_size(file->data, (guint)size);
    memset(file->data->data + old, 0, size - old);
    for (unsigned i = 0; i < 20; i++) /* blocks for clusters far behind the end */
        mem_file_put_word(file, table + (100 + i) * 8, end + i * 65536);
    g_autofree char *digest = judge_digest(file);
    cr_expect_eq(0, repair(file));
    expect_clean(file, digest);
    table = mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset));
    for (unsigned i = 0; i < 20; i++)
        cr_expect_eq(mem_file_word(file, table + (100 + i) * 8), 0);
    qc_file_unref(mem_file(file));
}

/* A device need not end with a cluster. In the last one may be compressed data; but nothing that
 * has to be whole is put there. */
Test(check, a_device_that_ends_within_a_cluster)
{
    static const Step take = {.kind = STEP_TAKE, .name = "two"};
    MemFile *file = prepared(&script_kinds[1]); /* 64 KiB clusters, 16-bit counts */
    uint64_t end = (file->data->len + 65535) / 65536 * 65536;
    guint full = (guint)end + 512, roomy = full + 20 * 65536, old = file->data->len;
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    bool unknown;
    g_byte_array_set_size(file->data, roomy);
    memset(file->data->data + old, 0, roomy - old);
    mem_file_put_word(file, l2 + 4 * 8, QC_COMPRESSED | end); /* one sector of it */
    file->data->data[first_refcount_block(file) + end / 65536 * 2 + 1] = 1;
    file->device = true;
    expect_clean(file, NULL);

    g_byte_array_set_size(file->data, full);
    expect_clean(file, NULL);
    cr_expect_eq(-ENOSPC, script_run(file, &take, &unknown));

    g_byte_array_set_size(file->data, roomy);
    memset(file->data->data + full, 0, roomy - full);
    file->max_size = roomy;
    cr_expect_eq(0, script_run(file, &take, &unknown));
    expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
}
