/* How far a stat is trusted, by its age and by who may be writing. */
#include "settle.h"
#include "memfile.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MS     INT64_C(1000000)
#define SECOND (1000 * MS)

/* A stat of a file that was changed at ctime, taken so much later. */
static QcFileStat stat_after(int64_t ctime, int64_t age)
{
    return (QcFileStat){.mode = S_IFREG | 0644, .ctime = ctime, .now = ctime + age};
}

static const int64_t whole = 1000 * SECOND, broken = 1000 * SECOND + 1;

Test(settle, trust_is_a_matter_of_age_and_writers)
{
    enum { NOT_KNOWN = -EOPNOTSUPP };
    static const struct {
        int64_t age;
        int writer, locked;
        QcTrust of_whole, of_broken; /* where the ctime is a whole second, and where it is not */
    } cases[] = {
        {0, 0, 0, QC_TRUST_NOTHING, QC_TRUST_NOTHING},
        {20 * MS, 0, 0, QC_TRUST_NOTHING, QC_TRUST_NOTHING},
        {20 * MS + 1, 0, 0, QC_TRUST_NOTHING, QC_TRUST_ALL},
        {2020 * MS, 0, 0, QC_TRUST_NOTHING, QC_TRUST_ALL},
        {2020 * MS + 1, 0, 0, QC_TRUST_ALL, QC_TRUST_ALL},
        /* the clock was set back */
        {-1, 0, 0, QC_TRUST_NOTHING, QC_TRUST_NOTHING},
        {-2020 * MS, 0, 0, QC_TRUST_NOTHING, QC_TRUST_NOTHING},
        {-2020 * MS - 1, 0, 0, QC_TRUST_READING, QC_TRUST_ALL},
        /* somebody may write */
        {20 * MS, 1, 1, QC_TRUST_NOTHING, QC_TRUST_NOTHING},
        {20 * MS + 1, 1, 0, QC_TRUST_NOTHING, QC_TRUST_READING},
        {20 * MS + 1, 1, 1, QC_TRUST_NOTHING, QC_TRUST_METADATA},
        {60 * SECOND, 1, 0, QC_TRUST_READING, QC_TRUST_READING},
        {60 * SECOND, 1, 1, QC_TRUST_METADATA, QC_TRUST_METADATA},
        {60 * SECOND, 1, -EIO, QC_TRUST_READING, QC_TRUST_READING},
        /* nobody knows whether somebody does */
        {20 * MS + 1, NOT_KNOWN, 0, QC_TRUST_NOTHING, QC_TRUST_READING},
        {2020 * MS, NOT_KNOWN, 1, QC_TRUST_NOTHING, QC_TRUST_READING},
        {2020 * MS + 1, NOT_KNOWN, 0, QC_TRUST_ALL, QC_TRUST_ALL},
        {2020 * MS + 1, NOT_KNOWN, 1, QC_TRUST_METADATA, QC_TRUST_METADATA},
        {2020 * MS + 1, NOT_KNOWN, -EIO, QC_TRUST_READING, QC_TRUST_READING},
    };
    MemFile *file = mem_file_new(NULL, 0);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcFileStat a = stat_after(whole, cases[i].age), b = stat_after(broken, cases[i].age);

        file->writer = cases[i].writer;
        file->locked = cases[i].locked;
        cr_expect_eq(qc_file_trust(mem_file(file), &a), cases[i].of_whole, "whole, %zu", i);
        cr_expect_eq(qc_file_trust(mem_file(file), &b), cases[i].of_broken, "broken, %zu", i);
        a.mode = b.mode = S_IFBLK | 0644; /* a device's stat tells nothing */
        cr_expect_eq(qc_file_trust(mem_file(file), &a), QC_TRUST_NOTHING);
        cr_expect_eq(qc_file_trust(mem_file(file), &b), QC_TRUST_NOTHING);
    }
    qc_file_unref(mem_file(file));
}

/* Nor is the clock of whoever gives files their times always ours: /proc stands for servers. */
Test(settle, by_another_clock_only_what_is_old_is_trusted)
{
    static const struct {
        int64_t age;
        QcTrust trust;
    } cases[] = {
        {SECOND, QC_TRUST_NOTHING},
        {2020 * MS, QC_TRUST_NOTHING},
        {2020 * MS + 1, QC_TRUST_ALL},
        {-60 * SECOND, QC_TRUST_NOTHING},
    };
    g_autoptr(QcFile) file = NULL;

    cr_assert_eq(0, qc_file_new_fd(open("/proc/self/status", O_RDONLY | O_CLOEXEC), &file));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcFileStat st = stat_after(broken, cases[i].age);

        cr_expect_eq(qc_file_trust(file, &st), cases[i].trust, "case %zu", i);
    }
}

/* A program can write to a file of a tmpfs, which such a file is of, without a new time. */
Test(settle, where_mapped_writes_do_not_show_nothing_is_kept)
{
    g_autoptr(QcFile) file = NULL;
    QcFileStat old = stat_after(broken, 60 * SECOND);

    cr_assert_eq(0, qc_file_new_fd(memfd_create("image", MFD_CLOEXEC), &file));
    cr_expect_eq(qc_file_trust(file, &old), QC_TRUST_READING);
}

static unsigned looks;

static int stat_ahead(QcFile *file, QcFileStat *ret)
{
    (void)file;
    looks++;
    *ret = stat_after(broken, -SECOND);
    return 0;
}

/* A file that is of a time to come, and stays so: as of a server whose clock is far ahead. */
Test(settle, a_clock_that_is_ahead_is_not_waited_for_without_end, .timeout = 60)
{
    MemFile *file = mem_file_new(NULL, 0);
    QcFileOps ops = *file->base.ops;
    const QcFileOps *usual = file->base.ops;

    ops.stat = stat_ahead;
    file->base.ops = &ops;
    cr_expect_eq(0, qc_file_settle(mem_file(file), NULL));
    cr_expect_gt(looks, 1, "it might have been a moment");
    file->base.ops = usual;
    qc_file_unref(mem_file(file));
}
