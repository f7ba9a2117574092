/* QEMU's image locks, between two open files. */
#include "qcow.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/lock-XXXXXX";

static void setup(void)
{
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

static QcFile *open_it(void)
{
    QcFile *file;
    cr_assert_eq(qc_file_new_fd(open(path, O_RDWR), &file), 0);
    return file;
}

static void hold(QcFile *file, const unsigned *bytes)
{
    for (; *bytes; bytes++)
        cr_assert_eq(qc_file_lock(file, *bytes, true), 0);
}

static bool bar_a_writer(const unsigned *bytes)
{
    bool bar = false;
    for (; *bytes; bytes++)
        bar |= qc_lock_bars_writer(*bytes, *bytes, false);
    return bar;
}

static bool tell_of_a_writer(const unsigned *bytes)
{
    bool tell = false;
    for (; *bytes; bytes++)
        tell |= qc_lock_tells_writer(*bytes, *bytes);
    return tell;
}

Test(lock, of_a_range_or_exclusive)
{
    cr_expect(qc_lock_bars_writer(0, UINT64_MAX, false), "some of these bytes");
    cr_expect(qc_lock_bars_writer(100, 100, true), "a byte that a writer takes");
    cr_expect_not(qc_lock_bars_writer(0, 99, true));
    cr_expect_not(qc_lock_bars_writer(104, 199, true));
    cr_expect_not(qc_lock_bars_writer(204, UINT64_MAX, true));
    cr_expect(qc_lock_tells_writer(0, UINT64_MAX));
    cr_expect_not(qc_lock_tells_writer(104, UINT64_MAX));
}

Test(lock, against_every_holder_of_qemu, .init = setup, .fini = teardown)
{
    static const struct {
        const char *who;
        unsigned bytes[6];
        int reader, writer, has_writer;
    } cases[] = {
        {"nobody", {0}, 0, 0, 0},
        {"qemu-img info", {201, 203, 0}, 0, -EBUSY, 0},
        {"qemu-img check", {100, 201, 203, 0}, 0, -EBUSY, 0},
        {"running QEMU", {100, 101, 103, 201, 203, 0}, 0, -EBUSY, 1},
        {"backing file of a running QEMU", {100, 201, 203, 0}, 0, -EBUSY, 0},
        {"with -U", {100, 0}, 0, 0, 0},
        {"who rewrites what is there", {100, 102, 0}, 0, 0, 0},
        {"base of qemu-img commit", {100, 101, 103, 203, 0}, 0, -EBUSY, 1},
        {"somebody who does not share reads", {200, 0}, -EBUSY, -EBUSY, 0},
        {"who only writes", {101, 0}, 0, -EBUSY, 1},
        {"who only resizes", {103, 0}, 0, -EBUSY, 1},
        {"who only does not share writes", {201, 0}, 0, -EBUSY, 0},
        {"who only does not share what we do not do", {202, 0}, 0, 0, 0},
        {"who only does not share resizes", {203, 0}, 0, -EBUSY, 0},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(QcFile) other = open_it(), ours = open_it();
        hold(other, cases[i].bytes);
        cr_expect_eq(qc_lock_has_writer(ours), cases[i].has_writer, "%s", cases[i].who);
        cr_expect_eq(qc_lock_reader(ours, NULL), cases[i].reader, "%s", cases[i].who);
        qc_lock_release(ours);
        cr_expect_eq(qc_lock_writer(ours, NULL), cases[i].writer, "%s", cases[i].who);
        cr_expect_eq(bar_a_writer(cases[i].bytes), cases[i].writer != 0, "%s", cases[i].who);
        cr_expect_eq(tell_of_a_writer(cases[i].bytes), cases[i].has_writer, "%s", cases[i].who);
    }
}

Test(lock, two_writers_exclude_each_other_and_readers_do_not_matter, .init = setup,
     .fini = teardown)
{
    g_autoptr(QcFile) a = open_it(), b = open_it(), reader = open_it();
    cr_expect_eq(qc_lock_reader(reader, NULL), 0);
    cr_expect_eq(qc_lock_writer(a, NULL), 0);
    cr_expect_eq(qc_lock_writer(b, NULL), -EBUSY);
    cr_expect_eq(qc_lock_has_writer(reader), 1);
    qc_lock_release(a);
    cr_expect_eq(qc_lock_has_writer(reader), 0, "a failed attempt leaves nothing behind");
    cr_expect_eq(qc_lock_writer(b, NULL), 0);
}

/* Of all bytes that are taken before one cannot be had, none is kept. */
Test(lock, an_exclusive_one_leaves_nothing_of_ours, .init = setup, .fini = teardown)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 203, .l_len = 1};
    g_autoptr(QcFile) other = open_it(), ours = open_it(), probe = open_it();
    cr_assert_eq(fcntl(qc_file_fd(other), F_OFD_SETLK, &lock), 0);
    cr_expect_eq(qc_lock_writer(ours, NULL), -EBUSY);
    cr_expect_eq(qc_file_lock_held(probe, 100, 103), 0);
}

Test(lock, a_writer_holds_qemus_bytes, .init = setup, .fini = teardown)
{
    g_autoptr(QcFile) a = open_it(), probe = open_it();
    cr_assert_eq(qc_lock_writer(a, NULL), 0);
    for (unsigned byte = 100; byte < 104; byte++)
        cr_expect_eq(qc_file_lock_held(probe, byte, 1), byte != 102, "%u", byte);
    for (unsigned byte = 200; byte < 204; byte++)
        cr_expect_eq(qc_file_lock_held(probe, byte, 1), byte == 201 || byte == 203, "%u", byte);
}

/* A writer's file, let grow by some bytes. */
static void let_grow(QcFile *file, uint64_t size)
{
    cr_assert_eq(qc_file_write(file, "longer", 6, size), 0);
}

/* Who opened the file before it grew must find the locks; see let_openers_fail. */
static void expect_kept_after_growth(QcFile *file, uint64_t size)
{
    int64_t before = g_get_monotonic_time(); /* later ones come after the growth by any time */
    let_grow(file, size);
    qc_lock_release(file);
    cr_expect_geq(g_get_monotonic_time() - before, 50000);
}

static uint64_t lock_to_write(QcFile *file)
{
    QcFileStat stat;
    cr_assert_eq(qc_file_stat(file, &stat), 0);
    cr_assert_eq(qc_lock_writer(file, NULL), 0);
    return stat.size;
}

Test(lock, outlives_growth_by_the_time_that_qemu_takes_to_open, .init = setup, .fini = teardown)
{
    g_autoptr(QcFile) a = open_it();
    expect_kept_after_growth(a, lock_to_write(a));
}

/* It can be waited for beforehand, while the locks are kept. */
Test(lock, lingers_with_all_its_locks, .init = setup, .fini = teardown)
{
    g_autoptr(QcFile) a = open_it();
    g_autoptr(QcFile) other = open_it();
    uint64_t size = lock_to_write(a);
    int64_t before = g_get_monotonic_time();
    let_grow(a, size);
    qc_lock_linger(a);
    cr_expect_geq(g_get_monotonic_time() - before, 50000);
    cr_expect_eq(qc_lock_writer(other, NULL), -EBUSY);
    cr_expect_eq(qc_lock_has_writer(other), 1);
    qc_lock_release(a);
    cr_expect_eq(qc_lock_writer(other, NULL), 0);
}

/* What grew for a command that failed is cut off; then the file grows anew. */
Test(lock, outlives_growth_that_comes_again, .init = setup, .fini = teardown)
{
    g_autoptr(QcFile) a = open_it();
    uint64_t size = lock_to_write(a);
    let_grow(a, size);
    cr_assert_eq(qc_file_truncate(a, size), 0);
    g_usleep(60000);
    expect_kept_after_growth(a, size);
}

/* A file on a server that lies: no shared lock is ever held, but none can be had exclusively. */
static QcFileOps lying_ops;
static unsigned lying_byte;

static int lying_held(QcFile *file, unsigned first, unsigned n)
{
    (void)file, (void)first, (void)n;
    return 0;
}

static int truth(QcFile *file, unsigned byte, bool ours)
{
    /* Whoever is to keep its own lock really has it. */
    g_autoptr(QcFile) probe = open_it();
    cr_expect_eq(qc_file_lock_held(probe, byte, 1), ours, "%u", byte);
    (void)file;
    return byte == lying_byte;
}

Test(lock, of_a_server_that_says_nothing_of_shared_locks, .init = setup, .fini = teardown)
{
    for (lying_byte = 100; lying_byte < 204; lying_byte++) {
        g_autoptr(QcFile) file = open_it(), probe = open_it();
        lying_ops = *file->ops;
        lying_ops.lock_held = lying_held;
        lying_ops.lock_held_surely = truth;
        file->ops = &lying_ops;
        bool bars = qc_lock_bars_writer(lying_byte, lying_byte, false);
        cr_expect_eq(qc_lock_reader(file, NULL), 0, "a reader keeps nobody out");
        qc_lock_release(file);
        cr_expect_eq(qc_lock_writer(file, NULL), bars ? -EBUSY : 0, "%u", lying_byte);
        cr_expect_eq(qc_file_lock_held(probe, 100, 104), !bars);
    }
}
