/*
 * Chains of layers of different sizes; snapshots of another size than the disk's; and what the stat
 * of a layer's file tells of it, and when it is too young to tell anything.
 */
#include "checked.h"
#include "memfile.h"
#include "stack.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- where layers end ---------------------------------------------------------------------- */

/*
 * A small layer between two larger ones: behind its end nothing shines through, to the byte,
 * whether it is looked up alone or remembered.
 */
Test(sizes, behind_the_end_of_a_layer_is_nothing)
{
    enum { SMALL = 20 * 65536 + 512 }; /* not where a cluster ends */
    Stack s = new_directory();
    const uint64_t size = 40 * 65536;
    g_autofree uint8_t *bytes = g_malloc(size), *buf = g_malloc(size);
    make_layer(&s, size, 16);
    make_layer(&s, SMALL, 16);
    make_layer(&s, size, 16);
    memset(bytes, 'b', size);
    Opened base = open_stack(&s, 0, O_RDWR);
    cr_assert_eq(0, qc_image_write(base.image, base.chain, bytes, size, 0, NULL, NULL));
    opened_clear(&base);
    for (unsigned i = 0; i < s.n; i++)
        qc_file_settle(s.made[i], NULL);
    Opened top = open_stack(&s, 2, O_RDWR);

    memset(bytes + SMALL, 0, size - SMALL);
    for (unsigned round = 0; round < 2; round++) {
        memset(buf, 0xee, size);
        cr_assert_eq(qc_view_read(top.view, buf, size, 0), (ssize_t)size);
        cr_expect_eq(0, memcmp(buf, bytes, size), "round %u", round);
    }
    cr_expect_eq(qc_view_seek(top.view, 0, false), 0);
    cr_expect_eq(qc_view_seek(top.view, 0, true), SMALL);
    cr_expect_eq(qc_view_seek(top.view, SMALL, false), -ENXIO);
    opened_clear(&top);
    remove_stack(&s);
}

/* What large clusters leave out is looked up in small ones, one by one. */
Test(sizes, beneath_large_clusters_each_small_one_counts)
{
    enum { SIZE = 256 << 10 };
    static const uint64_t pieces[][2] = {{512, 512}, {3000, 2000}, {70000, 1000}, {131072, 60000}};
    Stack s = new_directory();
    g_autofree uint8_t *bytes = g_malloc0(SIZE), *buf = g_malloc(SIZE);
    make_layer(&s, SIZE, 9);
    make_layer(&s, SIZE, 9);
    make_layer(&s, SIZE, 16);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(pieces); i++) {
        uint64_t at = pieces[i / 2][0] + i % 2 * 1024, len = pieces[i / 2][1];
        Opened o = open_stack(&s, i % 2, O_RDWR);
        memset(bytes + at, (int)i + 1, len);
        cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes + at, len, at, NULL, NULL));
        opened_clear(&o);
    }
    for (unsigned i = 0; i < s.n; i++)
        qc_file_settle(s.made[i], NULL);
    Opened top = open_stack(&s, 2, O_RDWR);
    for (unsigned round = 0; round < 2; round++) {
        memset(buf, 0xee, SIZE);
        cr_assert_eq(qc_view_read(top.view, buf, SIZE, 0), SIZE);
        cr_expect_eq(0, memcmp(buf, bytes, SIZE), "round %u", round);
    }
    opened_clear(&top);
    remove_stack(&s);
}

/* ---- snapshots of another size ------------------------------------------------------------- */

enum {
    LARGE_DISK = 4 << 20, /* 128 L1 entries of clusters of 512 bytes: two clusters of them */
    SMALL_DISK = 1 << 20, /* 32 entries */
};

static void put_half(MemFile *file, uint64_t at, uint32_t x)
{
    be32 v = be32_make(x);
    memcpy(file->data->data + at, &v, sizeof(v));
}

/* An image whose disk, or whose snapshot's, is small. The second cluster of its L1 table is lost.
 */
static MemFile *with_small(bool snapshot)
{
    static const Kind kind = {"v3-512", 3, 9, 16, false};
    MemFile *file = prepared_of_size(&kind, LARGE_DISK);
    uint64_t entry = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    uint64_t size_at = entry + sizeof(QcDiskSnapshot) + offsetof(QcDiskSnapshotExtra, disk_size);
    uint64_t l1_size_at = entry + offsetof(QcDiskSnapshot, l1_size);
    if (!snapshot) {
        size_at = offsetof(QcDiskHeader, size);
        l1_size_at = offsetof(QcDiskHeader, l1_size);
    }
    cr_assert_eq(LARGE_DISK, mem_file_word(file, size_at));
    mem_file_put_word(file, size_at, SMALL_DISK);
    put_half(file, l1_size_at, SMALL_DISK / (64 * 512));
    return file;
}

/* Neither more than there was, which may be somebody else's, nor less. */
Test(sizes, what_a_revert_gives_back_is_the_table_that_was)
{
    for (unsigned snapshot = 0; snapshot < 2; snapshot++) {
        MemFile *file = with_small(snapshot);
        bool unknown;
        QcCheck before = check(file);
        cr_expect_eq(before.errors, 0, "%s", before.first);
        cr_expect_eq(before.leaks, 1);
        cr_expect_eq(0, script_run(file, &(Step){.kind = STEP_REVERT}, &unknown));
        cr_expect_eq(script_size(file), snapshot ? SMALL_DISK : LARGE_DISK);
        expect_clean(file, NULL);
        qc_file_unref(mem_file(file));
    }
}

/* ---- what a stat tells --------------------------------------------------------------------- */

/* Who changes a file in place can set all its times back but one. */
Test(sizes, a_change_behind_the_same_mtime_is_noticed)
{
    Stack s = new_directory();
    QcFile *middle;
    QcFileStat st;
    uint8_t byte = 1;

    for (unsigned i = 0; i < 3; i++)
        make_layer(&s, 65536, 16);
    for (unsigned i = 0; i < s.n; i++)
        qc_file_settle(s.made[i], NULL);
    middle = s.made[1];
    Opened top = open_stack(&s, 2, O_RDWR);
    cr_assert_eq(0, qc_view_check(top.view));
    cr_assert_eq(0, qc_file_stat(middle, &st));
    cr_assert_eq(0, qc_file_write(middle, &byte, 1, st.size - 1));
    g_autofree char *path = path_of(&s, 1);
    struct timespec times[2] = {{st.mtime / 1000000000, st.mtime % 1000000000},
                                {st.mtime / 1000000000, st.mtime % 1000000000}};
    cr_assert_eq(0, utimensat(AT_FDCWD, path, times, 0));
    cr_expect_eq(-ESTALE, qc_view_check(top.view));
    opened_clear(&top);
    remove_stack(&s);
}

/* How long ago the file of the next test was changed, in milliseconds; or when, if not 0. */
static int64_t age_ms, changed_at;

static int stat_of_that_age(QcFile *file, QcFileStat *ret)
{
    int err = qc_file_stat_at(AT_FDCWD, "/", 0, ret);
    MemFile *m = (MemFile *)file;

    ret->size = m->data->len;
    ret->mode = S_IFREG | 0644;
    ret->ctime = changed_at ? changed_at : ret->now - age_ms * 1000000;
    ret->mtime = ret->ctime;
    return err;
}

/* What is said of a file of that age. */
static void look_at_age(int64_t age, bool *ret_settled, int *ret_check)
{
    MemFile *file = mem_file_new(NULL, 0);
    QcFileOps ops = *mem_file(file)->ops;

    cr_assert_eq(0, qc_create(mem_file(file), &(QcCreateOptions){.virtual_size = 65536}, NULL));
    ops.stat = stat_of_that_age;
    file->base.ops = &ops;
    age_ms = age;
    changed_at = 0;
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    changed_at = qc_image_info(o.image)->stat.ctime; /* from now on nothing changes */
    *ret_settled = qc_image_trust(o.image) == QC_TRUST_ALL;
    *ret_check = qc_view_check(o.view);
    qc_file_unref(mem_file(file));
}

/* A second change may hide behind a stat that was taken right after the first one. */
Test(sizes, a_file_that_has_just_changed_is_trusted_for_nothing)
{
    static const struct {
        int64_t age_ms;
        bool settled;
    } cases[] = {{0, false}, {5, false}, {1000, true}, {-5, false}, {-1000000, true}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool settled;
        int check;
        look_at_age(cases[i].age_ms, &settled, &check);
        cr_expect_eq(settled, cases[i].settled, "%zu", i);
        cr_expect_eq(check, cases[i].settled ? 0 : -ESTALE, "%zu", i);
    }
}
