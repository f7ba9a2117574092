/* When a file counts as grown. That the locks are kept then: engine/lock.c. */
#include "growth.h"
#include <criterion/criterion.h>

/* Whether a write that ends at size lets a file of 100 bytes grow. */
static bool lets_grow(uint64_t size)
{
    QcGrowth growth = {.size = 100};

    qc_growth_note(&growth, size);
    cr_expect_eq(growth.size, MAX(size, 100));
    return growth.grown != 0;
}

Test(growth, only_what_reaches_further_lets_a_file_grow)
{
    cr_expect_not(lets_grow(1));
    cr_expect_not(lets_grow(100));
    cr_expect(lets_grow(101));
}

Test(growth, is_waited_for_once)
{
    QcGrowth growth = {.size = 100};

    qc_growth_note(&growth, 200);
    qc_growth_wait(&growth);
    cr_expect_eq(growth.grown, 0);
    qc_growth_note(&growth, 200);
    cr_expect_eq(growth.grown, 0, "it has not grown since");
    qc_growth_note(&growth, 201);
    cr_expect_neq(growth.grown, 0);
}
