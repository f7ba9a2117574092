/*
 * settle.c - see settle.h.
 *
 * A change is noticed by stat - provided that the change time (ctime) was not so young when it was
 * taken that a second write could hide behind it. The kernel gives files the time of a clock that
 * ticks every few milliseconds. When that clock, read before the stat, is past the ctime, every
 * write after the stat gets a later one. But ext4 with small inodes keeps whole seconds, and so do
 * servers on such, FAT two; and the clock of a server is not quite ours. If the clock was set back,
 * it comes to the ctime once more: a write may then get the same one, where it is a whole second.
 *
 * The kernel takes the time when a write begins, and of a mapping when a page is first written to;
 * the bytes may come later: so the ctime has to be older than most writes take. What was read is
 * kept for long only if no process had the file open for writing then. Where writers cannot be
 * asked about, the ctime has to be older than any write takes. And where a write through a mapping
 * may leave the times as they are, one that comes later may not show at all: nothing is kept.
 *
 * A process that takes part in QEMU's locks may write for as long as a virtual machine runs, and
 * the image is not to be opened anew at each look meanwhile. All that such a writer can change of
 * what is known of an image is in its header, or lies where only a new header leads (tables are
 * replaced, not overwritten). So of that image the header is compared as well as the stat. What
 * the disk holds is another matter: it may be kept only of files that nothing writes to.
 */
#include "settle.h"
#include "qcow.h"
#include <sys/stat.h>

enum {
    STEP_US = 21 * 1000,
    MAX_STEPS = 200,
    MAX_CHANGES = 2, /* of the ctime: then a program writes all the time */
};

static const int64_t WRITE_NS = 20 * 1000000, COARSE_NS = 2020 * 1000000LL;

static int64_t age_of(const QcFileStat *st)
{
    return st->now - st->ctime;
}

static bool is_whole_second(const QcFileStat *st)
{
    return st->ctime % QC_NS_PER_SECOND == 0;
}

static bool is_settled(const QcFile *file, const QcFileStat *st)
{
    int64_t age = age_of(st);
    if (age > COARSE_NS)
        return true;
    if (!qc_file_has_our_clock(file))
        return false;
    /* The clock was set back: until it gets there, any later write will differ, too. */
    return age < -COARSE_NS || (age > WRITE_NS && !is_whole_second(st));
}

bool qc_file_time_has_come(const QcFileStat *was, const QcFileStat *now)
{
    return age_of(was) < 0 && age_of(now) >= -COARSE_NS;
}

QcTrust qc_file_trust(QcFile *file, const QcFileStat *st)
{
    if (S_ISBLK(st->mode) || !is_settled(file, st))
        return QC_TRUST_NOTHING;
    if (!qc_file_times_mapped_writes(file) || (age_of(st) < 0 && is_whole_second(st)))
        return QC_TRUST_READING;
    int writer = qc_file_has_writer(file);
    if (writer == 0)
        return QC_TRUST_ALL;
    if (writer < 0 && age_of(st) <= COARSE_NS)
        return QC_TRUST_READING;
    int locking = qc_lock_has_writer(file);
    if (locking == 1)
        return QC_TRUST_METADATA;
    return writer < 0 && locking == 0 ? QC_TRUST_ALL : QC_TRUST_READING;
}

int qc_file_settle(QcFile *file, QcFileStat *ret)
{
    QcFileStat st;
    unsigned changes = 0;
    int err = qc_file_stat(file, &st);
    for (unsigned i = 0; i < MAX_STEPS && changes < MAX_CHANGES && !err && !is_settled(file, &st);
         i++) {
        int64_t before = st.ctime;
        g_usleep(STEP_US);
        err = qc_file_stat(file, &st);
        changes += st.ctime != before;
    }
    if (!err && ret)
        *ret = st;
    return err;
}
