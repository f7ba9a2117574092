/*
 * file.c - QcFile: the common part, and the POSIX implementation.
 *
 * A PosixFile owns its descriptor. Locks are open-file-description locks, so they belong to
 * the descriptor, not to the process: two QcFiles on one image exclude each other even
 * inside one daemon, and closing one drops only its own.
 */
#include "qcow-file.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ZFS_SUPER_MAGIC 0x2fc12fc1

/* How long another program may take from opening a file to locking it; see let_openers_fail. */
#define OPEN_TO_LOCK_US 50000

typedef struct PosixFile {
    QcFile base;
    int fd;
    bool is_block;
    uint64_t size; /* the largest that is known, of a regular file */
    int64_t grown; /* when it became that, on the monotonic clock; 0: never */
} PosixFile;

void qc_file_init(QcFile *file, const QcFileOps *ops)
{
    file->ops = ops;
    g_atomic_ref_count_init(&file->refs);
}

QcFile *qc_file_ref(QcFile *file)
{
    g_atomic_ref_count_inc(&file->refs);
    return file;
}

void qc_file_unref(QcFile *file)
{
    if (file && g_atomic_ref_count_dec(&file->refs))
        file->ops->close(file);
}

ssize_t qc_file_read_some(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n;
    do
        n = file->ops->pread(file, buf, len, offset);
    while (n == -EINTR);
    return n;
}

/* Read until len bytes are there or the file ends. Returns the count. */
static ssize_t read_up_to(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = qc_file_read_some(file, (char *)buf + done, len - done, offset + done);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int qc_file_read(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = read_up_to(file, buf, len, offset);
    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -ENODATA;
}

int qc_file_read_padded(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = read_up_to(file, buf, len, offset);
    if (n < 0)
        return (int)n;
    memset((char *)buf + n, 0, len - (size_t)n);
    return 0;
}

int qc_file_write(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = file->ops->pwrite(file, (const char *)buf + done, len - done, offset + done);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

int qc_file_sync(QcFile *file)
{
    int err;
    do
        err = file->ops->sync(file);
    while (err == -EINTR);
    return err;
}

int qc_file_stat(QcFile *file, QcFileStat *ret)
{
    return file->ops->stat(file, ret);
}

int qc_file_truncate(QcFile *file, uint64_t size)
{
    return file->ops->truncate(file, size);
}

int64_t qc_file_seek(QcFile *file, uint64_t offset, bool hole)
{
    return file->ops->seek(file, offset, hole);
}

uint64_t qc_file_next_data(QcFile *file, uint64_t offset)
{
    int64_t data = qc_file_seek(file, offset, false);
    if (data == -ENXIO)
        return UINT64_MAX;
    return data < 0 ? offset : MAX(offset, (uint64_t)data);
}

int qc_file_lock(QcFile *file, unsigned byte, bool take)
{
    return file->ops->lock(file, byte, take);
}

int qc_file_lock_held(QcFile *file, unsigned first, unsigned n)
{
    return file->ops->lock_held(file, first, n);
}

int qc_file_has_writer(QcFile *file)
{
    return file->ops->has_writer(file);
}

bool qc_file_same_file(const QcFileStat *a, const QcFileStat *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

bool qc_file_same_stat(const QcFileStat *a, const QcFileStat *b)
{
    return qc_file_same_file(a, b) && a->size == b->size && a->mtime == b->mtime &&
           a->ctime == b->ctime;
}

/* ---- POSIX ------------------------------------------------------------------------------ */

static int fd_of(const QcFile *file)
{
    return ((const PosixFile *)file)->fd;
}

static ssize_t posix_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    if (offset > INT64_MAX)
        return 0; /* no file is that long */
    ssize_t n = pread(fd_of(file), buf, len, (off_t)offset);
    return n < 0 ? -errno : n;
}

/* Note that the file reaches to size now. */
static void note_growth(QcFile *file, uint64_t size)
{
    PosixFile *f = (PosixFile *)file;
    if (f->is_block || size <= f->size)
        return;
    f->size = size;
    f->grown = g_get_monotonic_time();
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
    if (n < 0 && errno == EPERM && ((PosixFile *)file)->is_block)
        return -EROFS; /* a device that became read-only, or let itself be opened all the same */
    if (n < 0)
        return growth_error();
    note_growth(file, offset + (uint64_t)n);
    return n;
}

static int posix_sync(QcFile *file)
{
    return fdatasync(fd_of(file)) < 0 ? -errno : 0;
}

static int64_t nanoseconds(struct statx_timestamp t)
{
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

int qc_file_stat_at(int dirfd, const char *path, int flags, QcFileStat *ret)
{
    struct statx st;
    if (statx(dirfd, path, flags | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
        return -errno;
    *ret = (QcFileStat){
        .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
        .ino = st.stx_ino,
        .size = st.stx_size,
        .allocated = st.stx_blocks * 512,
        .mtime = nanoseconds(st.stx_mtime),
        .ctime = nanoseconds(st.stx_ctime),
        .btime = st.stx_mask & STATX_BTIME ? nanoseconds(st.stx_btime) : 0,
        .mode = st.stx_mode,
        .uid = st.stx_uid,
        .gid = st.stx_gid,
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
    if (((PosixFile *)file)->is_block)
        return -EINVAL;
    return ftruncate(fd_of(file), (off_t)size) < 0 ? growth_error() : 0;
}

/* Where the file system cannot tell, SEEK_HOLE says that all is data: always true. */
static int64_t posix_seek(QcFile *file, uint64_t offset, bool hole)
{
    if (offset > INT64_MAX)
        return -ENXIO;
    if (((PosixFile *)file)->is_block) {
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

/*
 * QEMU asks for a file's length when it opens it, and for its locks a little later. Somebody who
 * opened the file before it grew, and got the locks after, would read zeros where the tables
 * are that were written meanwhile, and act on that. So the locks on a file that has grown are
 * kept until who opened it before that has found them.
 */
static void let_openers_fail(PosixFile *f)
{
    int64_t left = f->grown ? f->grown + OPEN_TO_LOCK_US - g_get_monotonic_time() : 0;
    f->grown = 0;
    if (left > 0)
        g_usleep((gulong)left);
}

static struct flock lock_of_bytes(unsigned first, unsigned n, short type)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = (off_t)n};
}

static int posix_lock(QcFile *file, unsigned byte, bool take)
{
    if (!take)
        let_openers_fail((PosixFile *)file);
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
 * The kernel gives a lease for reading only where nobody could write; where others may write past
 * it, it knows of none of them, or never gives one. It is given back at once: who opens the file
 * for writing in between waits for no more than that, and the signal that the kernel then sends
 * (SIGIO) has to be ignored.
 */
static int posix_has_writer(QcFile *file)
{
    int fd = fd_of(file);
    if (((PosixFile *)file)->is_block || !qc_file_has_our_clock(file) ||
        (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
        return -EOPNOTSUPP;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? 1 : -errno;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 0;
}

static void posix_close(QcFile *file)
{
    let_openers_fail((PosixFile *)file);
    close(fd_of(file));
    g_free(file);
}

static const QcFileOps posix_ops = {
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .sync = posix_sync,
    .stat = posix_stat,
    .truncate = posix_truncate,
    .seek = posix_seek,
    .lock = posix_lock,
    .lock_held = posix_lock_held,
    .has_writer = posix_has_writer,
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
    file->size = (uint64_t)st.st_size;
    *ret = &file->base;
    return 0;
}

int qc_file_fd(const QcFile *file)
{
    return file->ops == &posix_ops ? fd_of(file) : -1;
}

/* What kind of file system a file is on (the number is its magic); 0 when that is not known. */
static unsigned long file_system_of(const QcFile *file)
{
    struct statfs st;
    int fd = qc_file_fd(file);
    return fd < 0 || fstatfs(fd, &st) < 0 ? 0 : (unsigned long)st.f_type & UINT32_MAX;
}

bool qc_file_is_local(const QcFile *file)
{
    switch (file_system_of(file)) {
    case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case ZFS_SUPER_MAGIC &UINT32_MAX:
        return true;
    default:
        return false;
    }
}

bool qc_file_has_our_clock(const QcFile *file)
{
    return qc_file_fd(file) < 0 || qc_file_is_local(file) ||
           file_system_of(file) == OVERLAYFS_SUPER_MAGIC;
}
