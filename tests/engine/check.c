/* Finding what is wrong with an image, and mending what can be mended. */
#include "craft.h"
#include "format.h"
#include "judge.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static MemFile *prepared(const Kind *kind)
{
    static const Step history[] = {
        {.kind = STEP_WRITE, .len = 200000, .seed = 1},
        {.kind = STEP_TAKE, .name = "one"},
        {.kind = STEP_WRITE, .offset = 100000, .len = 100000, .seed = 2},
    };
    MemFile *file = script_image(kind, 300 * 1024);
    bool unknown;
    for (size_t i = 0; i < G_N_ELEMENTS(history); i++)
        cr_assert_eq(0, script_run(file, &history[i], &unknown));
    return file;
}

static QcCheck check(MemFile *file)
{
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    QcCheck result;
    cr_assert_eq(0, qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL));
    cr_assert_eq(0, qc_image_check(image, &result, NULL));
    return result;
}

static int repair_finding(MemFile *file, QcCheck *ret_found)
{
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    int err = qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL);
    return err ? err : qc_image_repair(image, ret_found, NULL, NULL);
}

static int repair(MemFile *file)
{
    return repair_finding(file, NULL);
}

/* Where the first refcount block lies. */
static uint64_t first_block(const MemFile *file)
{
    return mem_file_word(file, mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset)));
}

static void mark_dirty(MemFile *file)
{
    mem_file_put_word(file, offsetof(QcDiskHeader, incompatible_features),
                      mem_file_word(file, offsetof(QcDiskHeader, incompatible_features)) |
                          QC_INCOMPAT_DIRTY);
}

static void expect_clean(MemFile *file, const char *digest)
{
    g_autofree char *wrong = judge_check(file), *now = judge_digest(file);
    QcCheck result = check(file);
    cr_expect_eq(result.errors, 0, "%s", result.first);
    cr_expect_eq(result.leaks, 0);
    cr_expect_null(wrong, "%s", wrong);
    if (digest)
        cr_expect_str_eq(now, digest);
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
    memset(file->data->data + first_block(file), value, 64);
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
        cr_expect_gt(result.errors, 0);
        cr_expect_eq(result.leaks, 0, "what is not stored is not lost");
        cr_expect_eq(-EUCLEAN, script_run(file, &take, &unknown));
        cr_expect_eq(0, repair_finding(file, &found));
        cr_expect_eq(found.errors, result.errors);
        expect_clean(file, digest);
        qc_file_unref(mem_file(file));
    }
}

/* Those that set all counts and flags right. */
static const Step mending[] = {
    {.kind = STEP_TAKE, .name = "two"},
    {.kind = STEP_REVERT},
    {.kind = STEP_DELETE},
    {.kind = STEP_RENAME, .name = "eins"},
};

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

/* COPIED where a snapshot has the cluster too: the next write of a guest would change both. */
static void flip_copied(MemFile *file, bool in_l1)
{
    static const Step take = {.kind = STEP_TAKE, .name = "shared"};
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    bool unknown;
    if (in_l1) { /* now all L2 tables are shared */
        cr_assert_eq(0, script_run(file, &take, &unknown));
        at = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    } else {
        at = mem_file_word(file, at) & QC_OFFSET_MASK;
    }
    cr_assert_eq(0, mem_file_word(file, at) & QC_COPIED);
    mem_file_put_word(file, at, mem_file_word(file, at) | QC_COPIED);
}

Test(check, every_command_sets_the_flags_right)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < 2 * G_N_ELEMENTS(mending); c++) {
            if (script_kinds[i].refcount_bits == 2 && c == 1)
                continue; /* a third snapshot is one too many */
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            flip_copied(file, c % 2);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            cr_expect_eq(0, script_run(file, &mending[c / 2], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

/* QEMU does not open such an image; the bit may be cleared by whoever changes anything. */
Test(check, every_command_clears_the_mark_of_a_raw_data_file_that_is_not_there)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            size_t at = offsetof(QcDiskHeader, autoclear_features);
            if (script_kinds[i].version < 3)
                continue;
            MemFile *file = prepared(&script_kinds[i]);
            bool unknown;
            mem_file_put_word(file, at, QC_AUTOCLEAR_RAW);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            MemFile *repaired = mem_file_copy(file);
            cr_expect_eq(0, repair(repaired));
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            cr_expect_eq(0, mem_file_word(file, at));
            expect_clean(file, NULL);
            expect_clean(repaired, NULL);
            qc_file_unref(mem_file(repaired));
            qc_file_unref(mem_file(file));
        }
    }
}

/* Cut the extra data of each snapshot to so many bytes. */
static void shorten_extra(MemFile *file, uint32_t len)
{
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    be32 n;
    memcpy(&n, file->data->data + offsetof(QcDiskHeader, nb_snapshots), sizeof(n));
    for (uint32_t i = 0; i < be32_get(n); i++) {
        uint8_t *entry = file->data->data + at;
        QcDiskSnapshot d;
        memcpy(&d, entry, sizeof(d));
        size_t strings = be16_get(d.id_size) + (size_t)be16_get(d.name_size);
        memmove(entry + sizeof(d) + len, entry + sizeof(d) + be32_get(d.extra_data_size), strings);
        d.extra_data_size = be32_make(len);
        memcpy(entry, &d, sizeof(d));
        at += qc_padded(sizeof(d) + len + strings);
    }
}

Test(check, every_command_completes_snapshots_without_a_size)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (uint32_t extra = 0; extra <= 16; extra += 8) {
            bool wrong = script_kinds[i].version >= 3 && extra < 16;
            for (size_t c = 0; c <= G_N_ELEMENTS(mending); c++) {
                MemFile *file = prepared(&script_kinds[i]);
                g_autofree char *digest = judge_digest(file);
                bool unknown;
                shorten_extra(file, extra);
                QcCheck before = check(file);
                cr_expect_eq(before.errors, wrong, "%s", before.first);
                if (c < G_N_ELEMENTS(mending))
                    cr_expect_eq(0, script_run(file, &mending[c], &unknown));
                else
                    cr_expect_eq(0, repair(file));
                expect_clean(file, c < G_N_ELEMENTS(mending) ? NULL : digest);
                qc_file_unref(mem_file(file));
            }
        }
    }
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

/* Something is wrong that no command mends, and none makes worse. Frees the file. */
static void expect_left_alone(MemFile *file)
{
    g_autoptr(GByteArray) before = g_byte_array_new();
    bool unknown;
    g_byte_array_append(before, file->data->data, file->data->len);

    QcCheck result = check(file);
    cr_expect_gt(result.errors, 0);
    cr_expect_str_not_empty(result.first);
    for (size_t c = 0; c < G_N_ELEMENTS(mending); c++)
        cr_expect_eq(-EUCLEAN, script_run(file, &mending[c], &unknown), "command %zu", c);
    cr_expect_eq(-EUCLEAN, repair(file));
    cr_expect_eq(before->len, file->data->len);
    cr_expect_eq(0, memcmp(before->data, file->data->data, before->len));
    qc_file_unref(mem_file(file));
}

Test(check, broken_tables_are_found_and_left_alone)
{
    MemFile *file = prepared(&script_kinds[4]);
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    mem_file_put_word(file, l1, mem_file_word(file, l1) | 0x100); /* no cluster's offset */
    expect_left_alone(file);
}

Test(check, an_l2_table_that_two_entries_have_is_found_and_left_alone)
{
    MemFile *file = prepared(&script_kinds[0]); /* clusters of 512 bytes: ten entries */
    craft_table_twice(file);
    expect_left_alone(file);
}

/* Where the L2 entry of the first guest cluster is; it is compressed. */
static uint64_t compressed_entry(MemFile *file)
{
    craft_compress(file, 0, 1);
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    cr_assert(mem_file_word(file, l2) & QC_COMPRESSED);
    return l2;
}

/* A snapshot's tables stay where they are, so nothing mends this. */
Test(check, copied_compressed_clusters_of_snapshots_are_found_and_left_alone)
{
    static const Step take = {.kind = STEP_TAKE, .name = "two"};
    static const Step write = {.kind = STEP_WRITE, .len = 512, .seed = 3};
    bool unknown;
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (unsigned own = 0; own < 2; own++) {
            if (script_kinds[i].refcount_bits == 2)
                continue; /* the snapshots would be too many */
            MemFile *file = prepared(&script_kinds[i]);
            uint64_t entry = compressed_entry(file);
            cr_assert_eq(0, script_run(file, &take, &unknown));
            uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
            entry = mem_file_word(file, l1) & QC_OFFSET_MASK;
            if (own) /* from here on the disk has another table */
                cr_assert_eq(0, script_run(file, &write, &unknown));
            mem_file_put_word(file, entry, mem_file_word(file, entry) | QC_COPIED);
            expect_left_alone(file);
        }
    }
}

Test(check, copied_compressed_clusters_of_the_disk_are_mended)
{
    for (size_t i = 0; i < script_n_kinds; i++) {
        for (size_t c = 0; c < G_N_ELEMENTS(mending); c++) {
            MemFile *file = prepared(&script_kinds[i]);
            Step own = {.kind = STEP_WRITE, .len = 512, .seed = 3}; /* the table too */
            bool unknown;
            cr_assert_eq(0, script_run(file, &own, &unknown));
            uint64_t entry = compressed_entry(file);
            mem_file_put_word(file, entry, mem_file_word(file, entry) | QC_COPIED);
            QcCheck before = check(file);
            cr_expect_eq(before.errors, 1, "%s", before.first);
            cr_expect_eq(0, script_run(file, &mending[c], &unknown));
            expect_clean(file, NULL);
            qc_file_unref(mem_file(file));
        }
    }
}

Test(check, a_compressed_cluster_with_subclusters_is_found_and_left_alone)
{
    static const Kind kind = {"v3-16k-extl2", 3, 14, 16, true};
    MemFile *file = prepared(&kind);
    uint64_t entry = compressed_entry(file);
    g_autofree char *digest = judge_digest(file);
    mem_file_put_word(file, entry + 8, 1);
    g_autofree char *now = judge_digest(file);
    cr_expect_str_eq(now, digest);
    expect_left_alone(file);
}

/* Where a field of the bitmaps extension is. */
static size_t bitmaps_field(const MemFile *file, size_t field)
{
    /* The lower half of this word is header_length. */
    uint32_t extension = (uint32_t)mem_file_word(file, offsetof(QcDiskHeader, refcount_order));
    return extension + sizeof(QcDiskExtension) + field;
}

/* An image of 64 KiB clusters with a bitmap, and where its entry of the directory lies. */
static MemFile *with_bitmap(uint64_t *ret_entry)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    MemFile *file = prepared(&kind);
    craft_bitmap(file);
    QcCheck result = check(file);
    cr_assert_eq(result.errors + result.leaks, 0, "%s", result.first);
    *ret_entry =
        mem_file_word(file, bitmaps_field(file, offsetof(QcDiskBitmaps, directory_offset)));
    return file;
}

/* QEMU does not open an image whose bitmaps it cannot read. */
Test(check, broken_entries_of_a_bitmap_table_are_found_and_left_alone)
{
    static const uint64_t flips[] = {0x200, 0x1, 0x2, 0x100, UINT64_C(1) << 56, UINT64_C(1) << 63};
    for (size_t i = 0; i < G_N_ELEMENTS(flips); i++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        uint64_t table = mem_file_word(file, entry + offsetof(QcDiskBitmapEntry, table_offset));
        mem_file_put_word(file, table, mem_file_word(file, table) ^ flips[i]);
        expect_left_alone(file);
    }
}

Test(check, broken_entries_of_the_bitmap_directory_are_found_and_left_alone)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {offsetof(QcDiskBitmapEntry, type), 2},
        {offsetof(QcDiskBitmapEntry, granularity_bits), QC_MIN_GRANULARITY_BITS - 1},
        {offsetof(QcDiskBitmapEntry, granularity_bits), QC_MAX_GRANULARITY_BITS + 1},
        {offsetof(QcDiskBitmapEntry, name_size) + 1, 0},
        {offsetof(QcDiskBitmapEntry, name_size), 4},     /* longer than a name may be */
        {offsetof(QcDiskBitmapEntry, name_size) + 1, 9}, /* past the end of the directory */
        {offsetof(QcDiskBitmapEntry, table_offset) + 6, 2},
        {offsetof(QcDiskBitmapEntry, table_size) + 3, 0}, /* its clusters are no leaks */
        {offsetof(QcDiskBitmapEntry, table_size) + 3, 2}, /* more than the disk asks for */
        {offsetof(QcDiskBitmapEntry, flags) + 3, 4},      /* reserved */
        {offsetof(QcDiskBitmapEntry, flags), 0x80},
        {offsetof(QcDiskBitmapEntry, extra_data_size) + 3, 8},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        file->data->data[entry + wrong[i].at] = wrong[i].value;
        expect_left_alone(file);
    }
}

Test(check, a_bitmaps_extension_that_is_not_understood_is_found_and_left_alone)
{
    uint64_t entry;
    MemFile *file = with_bitmap(&entry);
    file->data->data[bitmaps_field(file, offsetof(QcDiskBitmaps, reserved))] = 1;
    expect_left_alone(file);

    file = with_bitmap(&entry); /* behind the one entry there is more */
    size_t at = bitmaps_field(file, offsetof(QcDiskBitmaps, directory_size));
    mem_file_put_word(file, at, mem_file_word(file, at) + 8);
    expect_left_alone(file);
}

/* A bitmap that was not closed is of no use, and may be of another size; QEMU opens such images. */
Test(check, a_bitmap_in_use_may_have_any_size)
{
    uint64_t entry;
    MemFile *file = with_bitmap(&entry);
    uint64_t table = mem_file_word(file, entry + offsetof(QcDiskBitmapEntry, table_offset));
    mem_file_put_word(file, table + 8, QC_BITMAP_ALL_ONES);
    file->data->data[entry + offsetof(QcDiskBitmapEntry, table_size) + 3] = 2;
    file->data->data[entry + offsetof(QcDiskBitmapEntry, flags) + 3] = QC_BITMAP_IN_USE;
    expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
}

/* Without the mark in the header, what the extension says is no more true, and does not matter. */
Test(check, bitmaps_that_are_not_valid_are_dropped)
{
    for (unsigned broken = 0; broken < 2; broken++) {
        uint64_t entry;
        MemFile *file = with_bitmap(&entry);
        bool unknown;
        mem_file_put_word(file, offsetof(QcDiskHeader, autoclear_features), 0);
        if (broken)
            file->data->data[bitmaps_field(file, offsetof(QcDiskBitmaps, nb_bitmaps))] = 0xff;
        QcCheck before = check(file);
        cr_expect_eq(before.errors, 0, "%s", before.first);
        cr_expect_gt(before.leaks, 0);
        cr_expect_eq(0, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
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
    memset(file->data->data + first_block(file) + (data >> 16) * 2, 0, 2);
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
