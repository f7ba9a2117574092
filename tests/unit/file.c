/* What the file interface makes of what a file answers. */
#include "qcow-file.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

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
    b = a;
    b.size++;
    cr_expect(!qc_file_same_stat(&a, &b) && qc_file_same_file(&a, &b));
    b = a;
    b.mtime++;
    cr_expect(!qc_file_same_stat(&a, &b) && qc_file_same_file(&a, &b));
    b = a;
    b.ctime++;
    cr_expect(!qc_file_same_stat(&a, &b) && qc_file_same_file(&a, &b));
}

/* ---- transfers ----------------------------------------------------------------------------- */

enum {
    FILE_BYTES = 10,
};

/* A file that does what it is told at each call, and the rest at once. */
typedef struct Fickle {
    QcFile base;
    uint8_t bytes[FILE_BYTES];
    int answers[4]; /* of the calls: how many bytes, or -errno; ENOUGH: as many as there are */
    unsigned calls;
} Fickle;

enum {
    ENOUGH = FILE_BYTES + 1,
};

static ssize_t answer_of(Fickle *f, size_t len, uint64_t offset)
{
    int answer = f->calls < G_N_ELEMENTS(f->answers) ? f->answers[f->calls] : ENOUGH;
    size_t there = offset < FILE_BYTES ? FILE_BYTES - (size_t)offset : 0;

    f->calls++;
    return answer < 0 ? answer : (ssize_t)MIN(MIN(len, there), (size_t)answer);
}

static ssize_t fickle_read(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    Fickle *f = (Fickle *)file;
    ssize_t n = answer_of(f, len, offset);

    if (n > 0)
        memcpy(buf, f->bytes + offset, (size_t)n);
    return n;
}

static ssize_t fickle_write(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    Fickle *f = (Fickle *)file;
    ssize_t n = answer_of(f, len, offset);

    if (n > 0)
        memcpy(f->bytes + offset, buf, (size_t)n);
    return n;
}

static int fickle_sync(QcFile *file)
{
    int answer = (int)answer_of((Fickle *)file, 0, 0);

    return MIN(answer, 0);
}

static const QcFileOps fickle_ops = {
    .pread = fickle_read, .pwrite = fickle_write, .sync = fickle_sync};

static Fickle fickle(const char *bytes, int first, int second, int third)
{
    Fickle f = {.answers = {first, second, third, ENOUGH}};

    memcpy(f.bytes, bytes, FILE_BYTES);
    qc_file_init(&f.base, &fickle_ops);
    return f;
}

Test(file, is_read_however_it_is_handed_out)
{
    char buf[12];
    Fickle f = fickle("0123456789", 3, -EINTR, 1);

    cr_expect_eq(0, qc_file_read(&f.base, buf, 7, 2));
    cr_expect_arr_eq(buf, "2345678", 7);
    cr_expect_eq(4, f.calls);

    f = fickle("0123456789", ENOUGH, ENOUGH, ENOUGH);
    cr_expect_eq(-ENODATA, qc_file_read(&f.base, buf, 9, 2), "one more than there is");
    f = fickle("0123456789", 3, -EACCES, ENOUGH);
    cr_expect_eq(-EACCES, qc_file_read(&f.base, buf, 7, 2));
    f = fickle("0123456789", 3, -EACCES, ENOUGH);
    cr_expect_eq(-EACCES, qc_file_read_padded(&f.base, buf, 7, 2));
}

Test(file, behind_its_end_zeros_are_read_where_they_are_asked_for)
{
    char buf[12];
    Fickle f = fickle("0123456789", 3, -EINTR, 1);

    memset(buf, 'x', sizeof(buf));
    cr_expect_eq(0, qc_file_read_padded(&f.base, buf, 11, 5));
    cr_expect_arr_eq(buf, "56789\0\0\0\0\0\0x", 12);
    cr_expect_eq(0, qc_file_read_padded(&f.base, buf, 5, 10));
    cr_expect_arr_eq(buf, "\0\0\0\0\0", 5);
}

Test(file, is_written_however_it_is_taken)
{
    Fickle f = fickle("0123456789", 3, -EINTR, 1);

    cr_expect_eq(0, qc_file_write(&f.base, "abcdefg", 7, 2));
    cr_expect_arr_eq(f.bytes, "01abcdefg9", 10);
    cr_expect_eq(4, f.calls);

    f = fickle("0123456789", 3, -ENOSPC, ENOUGH);
    cr_expect_eq(-ENOSPC, qc_file_write(&f.base, "abcdefg", 7, 2));
    f = fickle("0123456789", 3, 0, ENOUGH);
    cr_expect_eq(-EIO, qc_file_write(&f.base, "abcdefg", 7, 2), "nothing is no progress");
}

Test(file, a_sync_that_is_interrupted_is_done_again)
{
    Fickle f = fickle("0123456789", -EINTR, -EINTR, -EINTR);

    cr_expect_eq(0, qc_file_sync(&f.base));
    cr_expect_eq(4, f.calls);
    f = fickle("0123456789", -EIO, ENOUGH, ENOUGH);
    cr_expect_eq(-EIO, qc_file_sync(&f.base), "one that failed is not");
    cr_expect_eq(1, f.calls);
}

/* Where nothing can be asked, as of files that no server has. */
Test(file, what_it_cannot_do_is_not_asked_of_it)
{
    Fickle f = fickle("0123456789", ENOUGH, ENOUGH, ENOUGH);

    cr_expect_eq(0, qc_file_lock_held_surely(&f.base, 100, true));
    qc_file_refresh(&f.base, 0, FILE_BYTES);
    cr_expect_eq(0, f.calls);
}

static QcFile *new_file(void)
{
    QcFile *file;
    cr_assert_eq(0, qc_file_new_fd(memfd_create("file", MFD_CLOEXEC), &file));
    return file;
}

Test(file, what_is_no_file_is_closed)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    QcFile *file = NULL;
    cr_assert_geq(fd, 0);
    cr_expect_eq(-EINVAL, qc_file_new_fd(fd, &file));
    cr_expect_null(file);
    cr_expect_eq(-1, fcntl(fd, F_GETFD));
}

/* An image may say that something lies there. */
Test(file, nothing_lies_where_no_file_reaches)
{
    g_autoptr(QcFile) file = new_file();
    const uint64_t far[] = {UINT64_C(1) << 63, UINT64_MAX};
    char byte = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(far); i++) {
        cr_expect_eq(0, file->ops->pread(file, &byte, 1, far[i]));
        cr_expect_eq(-ENOSPC, file->ops->pwrite(file, &byte, 1, far[i]));
        cr_expect_eq(-ENXIO, file->ops->seek(file, far[i], true));
        cr_expect_eq(-ENXIO, file->ops->seek(file, far[i], false));
    }
}

/* Of the image's format nothing is too large. */
Test(file, a_limit_to_the_length_of_files_is_want_of_room)
{
    g_autoptr(QcFile) file = new_file();
    const struct rlimit limit = {4096, 4096};
    char bytes[4096] = {0};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(0, qc_file_write(file, bytes, sizeof(bytes), 0));
    cr_assert_eq(0, setrlimit(RLIMIT_FSIZE, &limit));
    cr_expect_eq(-ENOSPC, qc_file_write(file, bytes, sizeof(bytes), sizeof(bytes)));
    cr_expect_eq(-ENOSPC, qc_file_truncate(file, 2 * sizeof(bytes)));
}
