/* New images: which can be made, and that one is there when it is said to be. */
#include "checked.h"
#include <errno.h>
#include <string.h>

static int create(const QcCreateOptions *options, MemFile **ret)
{
    g_autoptr(GError) error = NULL;
    *ret = mem_file_new(NULL, 0);
    mem_file_record(*ret);
    int err = qc_create(mem_file(*ret), options, &error);
    cr_expect_eq(err < 0, error != NULL);
    if (err < 0)
        cr_expect_eq(0, (*ret)->data->len, "nothing is left");
    return err;
}

static int result_of(const QcCreateOptions *options)
{
    MemFile *file;
    int err = create(options, &file);
    if (!err)
        expect_clean(file, NULL);
    qc_file_unref(mem_file(file));
    return err;
}

Test(create, what_no_image_can_be_is_refused)
{
    static const QcCreateOptions wrong[] = {
        {.version = 1},
        {.version = 4},
        {.cluster_bits = QC_MIN_CLUSTER_BITS - 1},
        {.cluster_bits = QC_MAX_CLUSTER_BITS + 1},
        {.refcount_bits = 3},
        {.refcount_bits = 128},
        {.version = 2, .refcount_bits = 8},
        {.version = 2, .extended_l2 = true},
        {.version = 2, .lazy_refcounts = true},
        {.version = 2, .zstd = true},
        {.cluster_bits = QC_MIN_EXTENDED_L2_BITS - 1, .extended_l2 = true},
        {.backing_file = "base"},
        {.backing_format = "raw"},
        {.backing_file = "", .backing_format = "raw"},
        {.virtual_size = UINT64_MAX},
        {.virtual_size = QC_MAX_DISK_SIZE + 1, .cluster_bits = QC_MAX_CLUSTER_BITS},
    };
    static const QcCreateOptions right[] = {
        {0},
        {.version = 2, .cluster_bits = QC_MIN_CLUSTER_BITS, .virtual_size = 1000},
        {.cluster_bits = QC_MAX_CLUSTER_BITS, .refcount_bits = 64, .zstd = true},
        {.cluster_bits = QC_MIN_EXTENDED_L2_BITS, .extended_l2 = true, .lazy_refcounts = true},
        {.backing_file = "base", .backing_format = "raw", .virtual_size = 1},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
        cr_expect_eq(-EINVAL, result_of(&wrong[i]), "wrong %zu", i);
    for (size_t i = 0; i < G_N_ELEMENTS(right); i++)
        cr_expect_eq(0, result_of(&right[i]), "right %zu", i);
}

/* 4 Mi entries of an L1 table, each for 64 clusters. */
Test(create, a_disk_is_as_large_as_the_longest_l1_table_reaches)
{
    QcCreateOptions o = {.cluster_bits = 9, .virtual_size = UINT64_C(1) << (22 + 6 + 9)};
    MemFile *file;
    cr_expect_eq(0, create(&o, &file));
    qc_file_unref(mem_file(file));
    o.virtual_size++;
    cr_expect_eq(-EINVAL, result_of(&o));
}

/* The blocks that count them are counted too, as is the table, which one cluster may be too small
 * for. */
Test(create, as_many_refcount_blocks_as_the_clusters_need)
{
    for (unsigned mib = 1; mib <= 2048; mib *= 2) {
        QcCreateOptions o = {
            .cluster_bits = 9, .refcount_bits = 64, .virtual_size = (uint64_t)mib << 20};
        MemFile *file;
        cr_assert_eq(0, create(&o, &file));
        QcCheck result = check(file);
        g_autofree char *wrong = judge_check(file);
        cr_expect_eq(0, result.errors + result.leaks, "%u MiB: %s", mib, result.first);
        cr_expect_null(wrong, "%u MiB: %s", mib, wrong);
        qc_file_unref(mem_file(file));
    }
}

/* The largest name that fits, in bytes. */
static size_t longest_name(unsigned cluster_bits)
{
    g_autofree char *name = g_strnfill(2 * QC_MAX_BACKING_NAME, 'x');
    for (size_t len = 2 * QC_MAX_BACKING_NAME; len > 0; len--) {
        QcCreateOptions o = {
            .cluster_bits = cluster_bits, .backing_file = name, .backing_format = "raw"};
        MemFile *file;
        name[len] = '\0';
        int err = create(&o, &file);
        if (!err) {
            g_auto(Opened) opened = opened_new(mem_file(file), NULL);
            cr_expect_str_eq(qc_image_info(opened.image)->backing_file, name);
        }
        qc_file_unref(mem_file(file));
        if (!err)
            return len;
    }
    return 0;
}

Test(create, the_name_of_a_backing_file_lies_in_the_first_cluster)
{
    cr_expect_eq(QC_MAX_BACKING_NAME, longest_name(16));
    cr_expect_leq(longest_name(9), 512 - sizeof(QcDiskHeader));
    cr_expect_gt(longest_name(9), 300);
}

Test(create, a_file_that_holds_something_is_left_alone)
{
    MemFile *file = mem_file_new("x", 1);
    cr_expect_eq(-EINVAL, qc_create(mem_file(file), &(QcCreateOptions){0}, NULL));
    cr_expect_eq(1, file->data->len);
    qc_file_unref(mem_file(file));
}

/* The header comes when all else is durable; and it is, too, when the image is said to be there. */
Test(create, the_header_comes_last)
{
    MemFile *file;
    cr_assert_eq(0, create(&(QcCreateOptions){.virtual_size = 1 << 20}, &file));
    guint n = file->log->len;
    const MemOp *ops = &g_array_index(file->log, MemOp, 0);
    cr_assert_gt(n, 3);
    cr_expect_eq(ops[n - 1].kind, MEM_SYNC);
    cr_expect_eq(ops[n - 2].kind, MEM_WRITE);
    cr_expect_eq(ops[n - 2].offset, 0);
    cr_expect_eq(ops[n - 3].kind, MEM_SYNC);
    for (guint i = 0; i < n - 3; i++)
        cr_expect(ops[i].kind != MEM_WRITE || ops[i].offset > 0);
    qc_file_unref(mem_file(file));
}
