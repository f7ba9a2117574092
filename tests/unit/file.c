/* What the file interface makes of what a file answers. */
#include "qcow-file.h"
#include <criterion/criterion.h>
#include <errno.h>

/* A file of which only one thing is known: what it says when it is asked for data. */
typedef struct Oracle {
    QcFile base;
    int64_t answer;
} Oracle;

static int64_t say(QcFile *file, uint64_t offset, bool hole)
{
    (void)offset;
    cr_assert_not(hole);
    return ((Oracle *)file)->answer;
}

static const QcFileOps ops = {.seek = say};

Test(file, where_the_next_data_is)
{
    static const struct {
        int64_t answer;
        uint64_t wanted;
    } cases[] = {
        {8192, 8192}, {4096, 4096}, {-ENXIO, UINT64_MAX},
        {-EIO, 4096}, /* not known: data, as far as that goes */
        {0, 4096},    /* no file answers so */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Oracle oracle = {.answer = cases[i].answer};
        qc_file_init(&oracle.base, &ops);
        cr_expect_eq(cases[i].wanted, qc_file_next_data(&oracle.base, 4096), "%zu", i);
    }
}

Test(file, the_same_file_in_another_state)
{
    QcFileStat a = {.dev = 1, .ino = 2, .size = 3, .mtime = 4, .ctime = 5, .btime = 6}, b = a;
    cr_expect(qc_file_same_stat(&a, &b) && qc_file_same_file(&a, &b));
    b.ctime++;
    b.btime++;
    cr_expect(!qc_file_same_stat(&a, &b) && qc_file_same_file(&a, &b));
    b = a;
    b.ino++;
    cr_expect(!qc_file_same_stat(&a, &b) && !qc_file_same_file(&a, &b));
    b = a;
    b.dev++;
    cr_expect(!qc_file_same_stat(&a, &b) && !qc_file_same_file(&a, &b));
}
