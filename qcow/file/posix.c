/*
 * posix.c - QcFile on a descriptor.
 *
 * A PosixFile owns its descriptor. Locks are open-file-description locks, so they belong to
 * the descriptor, not to the process: two QcFiles on one image exclude each other even
 * inside one daemon, and closing one drops only its own. Before they are dropped, by closing or
 * otherwise, a file that has grown waits (growth.h).
 */
#include "direct.h"
#include "growth.h"
#include "qcow-file.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
    KEPT_TOGETHER = 4 << 20, /* bytes: no page of the kernel's cache is larger */
};

typedef struct PosixFile {
    QcFile base;
    int fd;
    bool is_block;
    QcGrowth growth; /* of a regular file */
    QcDirect direct;
} PosixFile;

static int fd_of(const QcFile *file)
{
    return ((const PosixFile *)file)->fd;
}

static bool is_block(const QcFile *file)
{
    return ((const PosixFile *)file)->is_block;
}

static QcGrowth *growth_of(QcFile *file)
{
    return &((PosixFile *)file)->growth;
}

static ssize_t posix_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    if (offset > INT64_MAX)
        return 0; /* no file is that long */
    ssize_t n = pread(fd_of(file), buf, len, (off_t)offset);
    return n < 0 ? -errno : n;
}

static ssize_t posix_pread_past(QcFile *file, uint64_t pass, void *buf, size_t len, uint64_t offset)
{
    return qc_direct_read(&((PosixFile *)file)->direct, file, pass, buf, len, offset);
}

/* What has kept a file from growing. A limit to its length is want of room to us: EFBIG is said of
 * the limits that the image's format has. */
static int growth_error(void)
{
    return errno == EFBIG ? -ENOSPC : -errno;
}

static ssize_t posix_pwrite(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    if (offset > INT64_MAX)
        return -ENOSPC;
    ssize_t n = pwrite(fd_of(file), buf, len, (off_t)offset);
    if (n < 0 && errno == EPERM && is_block(file))
        return -EROFS; /* a device that became read-only, or let itself be opened all the same */
    if (n < 0)
        return growth_error();
    if (!is_block(file))
        qc_growth_note(growth_of(file), offset + (uint64_t)n);
    return n;
}

static int posix_sync(QcFile *file)
{
    return fdatasync(fd_of(file)) < 0 ? -errno : 0;
}

/* Of the years that 64 bits hold; what is beyond them is shown as their end. */
static int64_t nanoseconds(struct statx_timestamp t)
{
    return CLAMP(t.tv_sec, INT64_MIN / QC_NS_PER_SECOND, INT64_MAX / QC_NS_PER_SECOND - 1) *
               QC_NS_PER_SECOND +
           t.tv_nsec;
}

static int64_t file_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec * QC_NS_PER_SECOND + now.tv_nsec;
}

int qc_file_stat_at(int dirfd, const char *path, int flags, QcFileStat *ret)
{
    struct statx st;
    int64_t now = file_clock();
    if (statx(dirfd, path, flags | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
        return -errno;
    *ret = (QcFileStat){
        .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
        .ino = st.stx_ino,
        .rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor),
        .size = st.stx_size,
        .allocated = st.stx_blocks * 512,
        .mtime = nanoseconds(st.stx_mtime),
        .ctime = nanoseconds(st.stx_ctime),
        .btime = st.stx_mask & STATX_BTIME ? nanoseconds(st.stx_btime) : 0,
        .mode = st.stx_mode,
        .uid = st.stx_uid,
        .gid = st.stx_gid,
        .now = now,
    };
    return 0;
}

static int posix_stat(QcFile *file, QcFileStat *ret)
{
    QcFileStat st;
    int err = qc_file_stat_at(fd_of(file), "", AT_EMPTY_PATH, &st);
    if (!err && S_ISBLK(st.mode)) {
        err = ioctl(fd_of(file), BLKGETSIZE64, &st.size) < 0 ? -errno : 0;
        st.allocated = st.size;
    }
    if (!err)
        *ret = st;
    return err;
}

static int posix_truncate(QcFile *file, uint64_t size)
{
    if (is_block(file))
        return -EINVAL;
    if (ftruncate(fd_of(file), (off_t)size) < 0)
        return growth_error();
    growth_of(file)->size = size;
    return 0;
}

/* The kernel lets go of a page only with all that it keeps together with that one. */
static void posix_refresh(QcFile *file, uint64_t offset, uint64_t len)
{
    if (!is_block(file) || offset > INT64_MAX)
        return;
    uint64_t from = offset / KEPT_TOGETHER * KEPT_TOGETHER;
    uint64_t up_to = (offset - from + MIN(len, INT64_MAX) + KEPT_TOGETHER - 1) / KEPT_TOGETHER;
    posix_fadvise(fd_of(file), (off_t)from, len ? (off_t)(up_to * KEPT_TOGETHER) : 0,
                  POSIX_FADV_DONTNEED);
}

/* Where the file system cannot tell, SEEK_HOLE says that all is data: always true. */
static int64_t posix_seek(QcFile *file, uint64_t offset, bool hole)
{
    if (offset > INT64_MAX)
        return -ENXIO;
    if (is_block(file)) {
        QcFileStat st;
        int err = posix_stat(file, &st);
        if (err < 0)
            return err;
        if (offset >= st.size)
            return -ENXIO;
        return (int64_t)(hole ? st.size : offset);
    }
    off_t at = lseek(fd_of(file), (off_t)offset, hole ? SEEK_HOLE : SEEK_DATA);
    return at < 0 ? -errno : at;
}

static struct flock lock_of_bytes(unsigned first, unsigned n, short type)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = (off_t)n};
}

static int posix_lock(QcFile *file, unsigned byte, bool take)
{
    if (!take)
        qc_growth_wait(growth_of(file));
    struct flock lock = lock_of_bytes(byte, 1, take ? F_RDLCK : F_UNLCK);
    return fcntl(fd_of(file), F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static int posix_lock_held(QcFile *file, unsigned first, unsigned n)
{
    struct flock lock = lock_of_bytes(first, n, F_WRLCK);
    if (fcntl(fd_of(file), F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

/*
 * Some servers of NFS 3 say of no shared lock that it is held (Linux 6.1.192 is one), though they
 * let nobody have an exclusive one beside it.
 */
static int posix_lock_held_surely(QcFile *file, unsigned byte, bool ours)
{
    if (qc_file_is_local(file))
        return 0;
    struct flock lock = lock_of_bytes(byte, 1, F_WRLCK);
    if (fcntl(fd_of(file), F_OFD_SETLK, &lock) < 0)
        return errno == EAGAIN || errno == EACCES ? 1 : -errno;
    lock.l_type = ours ? F_RDLCK : F_UNLCK;
    return fcntl(fd_of(file), F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/*
 * The kernel gives a lease for reading only when no process has the file open for writing. It knows
 * those of this machine; where others may write, it is not asked. The lease is given back at once:
 * a program that opens the file for writing in between waits for no more than that. The kernel then
 * sends a signal: one that ends no process, unlike SIGIO.
 */
static int posix_has_writer(QcFile *file)
{
    int fd = fd_of(file);
    if (is_block(file) || !qc_file_has_our_clock(file) ||
        (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
        return -EOPNOTSUPP;
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return -errno;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? 1 : -errno;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 0;
}

static void posix_close(QcFile *file)
{
    qc_growth_wait(growth_of(file));
    qc_direct_clear(&((PosixFile *)file)->direct);
    close(fd_of(file));
    g_free(file);
}

static const QcFileOps posix_ops = {
    .pread = posix_pread,
    .pread_past = posix_pread_past,
    .pwrite = posix_pwrite,
    .sync = posix_sync,
    .stat = posix_stat,
    .truncate = posix_truncate,
    .seek = posix_seek,
    .lock = posix_lock,
    .lock_held = posix_lock_held,
    .lock_held_surely = posix_lock_held_surely,
    .has_writer = posix_has_writer,
    .refresh = posix_refresh,
    .close = posix_close,
};

int qc_file_new_fd(int fd, QcFile **ret)
{
    struct stat st;
    int err = fstat(fd, &st) < 0 ? -errno : 0;
    if (!err && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        err = -EINVAL;
    PosixFile *file = err ? NULL : g_try_new0(PosixFile, 1);
    if (!file) {
        close(fd);
        return err ? err : -ENOMEM;
    }
    qc_file_init(&file->base, &posix_ops);
    file->fd = fd;
    file->is_block = S_ISBLK(st.st_mode);
    file->growth.size = (uint64_t)st.st_size;
    qc_direct_init(&file->direct);
    *ret = &file->base;
    return 0;
}

int qc_file_fd(const QcFile *file)
{
    return file->ops == &posix_ops ? fd_of(file) : -1;
}
