/* Reading long tables of numbers without their holes. */
#include "sparse.h"
#include "be.h"
#include "memfile.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum {
    AT = 512,          /* where the table begins */
    NUMBERS = 200000,  /* more than are read at once */
    STEP = 7,          /* each so many-th number is not 0, */
    HOLE = 50000,      /* but for those from here */
    HOLE_END = 100000, /* to here */
    FAILING = NUMBERS - NUMBERS % STEP - STEP,
};

static uint64_t number_at(uint32_t i)
{
    return i % STEP == 0 && (i < HOLE || i >= HOLE_END) ? i + 1 : 0;
}

static MemFile *make_table(void)
{
    g_autofree be64 *numbers = g_new0(be64, NUMBERS + AT / sizeof(be64));
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[AT / sizeof(be64) + i] = be64_make(number_at(i));
    MemFile *file = mem_file_new(numbers, AT + NUMBERS * sizeof(be64));
    file->sparse = true;
    return file;
}

typedef struct Seen {
    uint32_t next; /* number that may come */
    int error;     /* at FAILING */
} Seen;

static int see(void *data, uint32_t index, uint64_t number)
{
    Seen *seen = data;
    for (; seen->next < index; seen->next++)
        cr_assert_eq(0, number_at(seen->next), "%u is missing", seen->next);
    cr_assert_eq(seen->next++, index, "twice");
    cr_assert_eq(number, number_at(index));
    cr_assert_neq(number, 0);
    return index == FAILING ? seen->error : 0;
}

Test(sparse, each_number_that_is_not_0_comes_once)
{
    MemFile *file = make_table();
    Seen seen = {0};
    cr_assert_eq(0, qc_sparse_read(mem_file(file), AT, NUMBERS, see, &seen));
    cr_expect_gt(seen.next, NUMBERS - STEP);
    qc_file_unref(mem_file(file));
}

Test(sparse, an_error_ends_it)
{
    MemFile *file = make_table();
    Seen seen = {.error = -ECANCELED};
    cr_expect_eq(-ECANCELED, qc_sparse_read(mem_file(file), AT, NUMBERS, see, &seen));
    cr_expect_eq(seen.next, FAILING + 1);
    qc_file_unref(mem_file(file));
}

/* It is not one of zeros, which it would be if what is not there were a hole. */
Test(sparse, a_table_that_does_not_lie_inside_the_file_is_none)
{
    MemFile *file = make_table();
    uint64_t size = AT + NUMBERS * sizeof(be64);
    Seen seen = {0};
    cr_expect_eq(-EUCLEAN, qc_sparse_read(mem_file(file), AT, NUMBERS + 1, see, &seen));
    cr_expect_eq(-EUCLEAN, qc_sparse_read(mem_file(file), size, 1, see, &seen));
    cr_expect_eq(-EUCLEAN, qc_sparse_read(mem_file(file), size + AT, 1, see, &seen));
    cr_expect_eq(0, seen.next);
    cr_expect_eq(0, qc_sparse_read(mem_file(file), size + AT, 0, see, &seen), "no table");
    qc_file_unref(mem_file(file));
}

/* Nor one that was cut off since its size was looked at. */
Test(sparse, a_table_that_is_cut_off_meanwhile_is_none)
{
    MemFile *file = make_table();
    Seen seen = {0};
    file->fail_at = 2; /* after the size, and a look for holes */
    file->fail_error = -ENODATA;
    cr_expect_eq(-EUCLEAN, qc_sparse_read(mem_file(file), AT, NUMBERS, see, &seen));
    qc_file_unref(mem_file(file));
}
