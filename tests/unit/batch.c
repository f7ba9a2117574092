/* Sorting what is to be read. */
#include "batch.h"
#include <criterion/criterion.h>

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
