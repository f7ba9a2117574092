/* Refcounts of every width. */
#include "refcodec.h"
#include <criterion/criterion.h>

Test(refcodec, what_is_set_is_got_and_nothing_else_changes)
{
    for (unsigned order = 0; order <= 6; order++) {
        uint8_t block[512] = {0};
        uint64_t n = sizeof(block) * 8 >> order, max = qc_refcount_max(order);
        for (uint64_t i = 0; i < n; i++)
            qc_refcount_set(block, order, i, i % 3 == 0 ? max : i % 2);
        for (uint64_t i = 0; i < n; i++)
            cr_assert_eq(qc_refcount_get(block, order, i), i % 3 == 0 ? max : i % 2);
        qc_refcount_set(block, order, 5, 0);
        cr_assert_eq(qc_refcount_get(block, order, 4), 0);
        cr_assert_eq(qc_refcount_get(block, order, 5), 0);
        cr_assert_eq(qc_refcount_get(block, order, 6), max);
    }
}

Test(refcodec, layout_on_disk)
{
    uint8_t block[16] = {0};
    qc_refcount_set(block, 0, 3, 1);
    cr_expect_eq(block[0], 0x08, "sub-byte widths fill from the low bits");
    qc_refcount_set(block, 1, 7, 2);
    cr_expect_eq(block[1], 0x80);
    qc_refcount_set(block, 4, 2, 0x1234);
    cr_expect_eq(block[4], 0x12, "wider ones are big-endian");
    cr_expect_eq(block[5], 0x34);
    cr_expect_eq(qc_refcount_max(0), 1);
    cr_expect_eq(qc_refcount_max(4), 65535);
    cr_expect_eq(qc_refcount_max(6), UINT64_MAX);
}
