/* Sorting what is to be read, and reading it. */
#include "batch.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* The orders that tables can have in an image. */
static const struct {
    const char *name;
    uint64_t mask; /* of random offsets; 0: not random */
    int64_t step;
} orders[] = {
    {"ascending", 0, 65536},
    {"descending", 0, -65536},
    {"all the same", 0, 0},
    {"few different ones", 0xf0000, 0},
    {"random", UINT64_C(0x00fffffffffffe00), 0},
};

static void fill(QcBatchItem *items, size_t n, size_t order, GRand *rand)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t random = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
        uint64_t regular = (UINT64_C(1) << 40) + i * (uint64_t)orders[order].step;
        items[i] =
            (QcBatchItem){.offset = orders[order].mask ? random & orders[order].mask : regular,
                          .tag = (uint32_t)i};
    }
}

Test(batch, items_are_sorted_and_none_is_lost)
{
    static const size_t sizes[] = {0, 1, 2, 32, 33, 1000, 100000};
    GRand *rand = g_rand_new_with_seed(1);
    for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++) {
        for (size_t order = 0; order < G_N_ELEMENTS(orders); order++) {
            size_t n = sizes[s];
            g_autofree QcBatchItem *items = g_new0(QcBatchItem, n + 1);
            g_autofree bool *seen = g_new0(bool, n + 1);
            fill(items, n, order, rand);
            g_autofree QcBatchItem *was = g_memdup2(items, (n + 1) * sizeof(*items));
            qc_batch_sort(items, n);
            for (size_t i = 0; i < n; i++) {
                cr_assert(i == 0 || items[i - 1].offset <= items[i].offset, "%zu items, %s", n,
                          orders[order].name);
                cr_assert_eq(items[i].offset, was[items[i].tag].offset);
                cr_assert_not(seen[items[i].tag]);
                seen[items[i].tag] = true;
            }
        }
    }
    g_rand_free(rand);
}

/* ---- reading ------------------------------------------------------------------------------ */

enum {
    CLUSTER = 1 << 19,
    READ_MAX = 1 << 20, /* of one read, where clusters are no larger */
    FIRST = 8,          /* of N clusters behind all others; the file ends half a cluster later */
    N = 5,
};

static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    size_t longest; /* read */
} storage;

static ssize_t pread_measured(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    storage.longest = MAX(storage.longest, len);
    return storage.usual->pread(file, buf, len, offset);
}

/* An image with N clusters more, full of 1, of 2 and so on. */
static MemFile *with_clusters(void)
{
    static const Kind kind = {"v3-512k", 3, 19, 16, false};
    MemFile *file = script_image(&kind, CLUSTER);
    cr_assert_leq(file->data->len, FIRST * CLUSTER);
    g_byte_array_set_size(file->data, (FIRST + N) * CLUSTER + CLUSTER / 2);
    for (int i = 0; i < N; i++)
        memset(file->data->data + (size_t)(FIRST + i) * CLUSTER, i + 1, CLUSTER);
    return file;
}

typedef struct Got {
    unsigned n;
    uint32_t tags[N];
} Got;

static int get_cluster(void *data, const QcBatchItem *item, uint8_t *cluster)
{
    Got *got = data;
    cr_assert_lt(got->n, N);
    for (size_t i = 0; i < CLUSTER; i++)
        cr_assert_eq(cluster[i], item->offset / CLUSTER - FIRST + 1);
    got->tags[got->n++] = item->tag;
    return 0;
}

static int read_items(MemFile *file, QcBatchItem *items, size_t n, Got *ret)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    return qc_batch_read(o.image, items, n, &(QcMeter){0}, get_cluster, ret);
}

Test(batch, neighbours_come_by_long_reads_but_none_that_is_longer_than_its_buffer)
{
    MemFile *file = with_clusters();
    QcBatchItem items[N];
    Got got = {0};
    for (unsigned i = 0; i < N; i++)
        items[i] = (QcBatchItem){.offset = (FIRST + (i + 2) % N) * (uint64_t)CLUSTER, .tag = i};
    storage.usual = file->base.ops;
    storage.ops = *file->base.ops;
    storage.ops.pread = pread_measured;
    file->base.ops = &storage.ops;
    cr_assert_eq(0, read_items(file, items, N, &got));
    cr_assert_eq(got.n, N);
    for (unsigned i = 0; i < N; i++)
        cr_expect_eq(got.tags[i], (i + N - 2) % N);
    cr_expect_eq(storage.longest, READ_MAX);
    qc_file_unref(mem_file(file));
}

/* It would be taken for a hole. Of two tables in one place, one would be given out twice. */
Test(batch, what_is_not_inside_the_file_or_comes_twice_is_refused)
{
    static const uint64_t places[][2] = {
        {FIRST, FIRST + N},     /* which the file has half of */
        {FIRST, FIRST + N + 1}, /* none of */
        {FIRST, FIRST + N + 100},
        {FIRST, FIRST},
    };
    MemFile *file = with_clusters();
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        QcBatchItem items[2] = {{.offset = places[i][0] * CLUSTER},
                                {.offset = places[i][1] * CLUSTER}};
        Got got = {0};
        cr_expect_eq(-EUCLEAN, read_items(file, items, 2, &got), "pair %zu", i);
        cr_expect_eq(got.n, 0);
    }
    qc_file_unref(mem_file(file));
}

static ssize_t pread_nothing(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    (void)file, (void)buf, (void)len, (void)offset;
    return 0;
}

Test(batch, a_file_that_is_cut_off_meanwhile_is_broken)
{
    MemFile *file = with_clusters();
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    QcBatchItem item = {.offset = (uint64_t)FIRST * CLUSTER};
    Got got = {0};
    storage.ops = *file->base.ops;
    storage.ops.pread = pread_nothing;
    file->base.ops = &storage.ops;
    cr_expect_eq(-EUCLEAN, qc_batch_read(o.image, &item, 1, &(QcMeter){0}, get_cluster, &got));
    qc_file_unref(mem_file(file));
}
