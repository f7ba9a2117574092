/*
 * qcow-file.h - the one interface through which the engine touches files.
 *
 * Everything the engine reads, writes, syncs or locks goes through a QcFile. The POSIX one
 * (qc_file_new_fd) is what programs use; tests put their own operations behind the same
 * struct to record writes, tear them, or make any call fail.
 *
 * Offsets and lengths are bytes. Functions return 0 or a count, or a negative errno.
 * A QcFile is reference-counted; its operations may be called from several threads at once, but
 * those that write, truncate or lock by one at a time.
 */
#ifndef QCOW_FILE_H
#define QCOW_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

G_BEGIN_DECLS

/* A file, or what a test puts in its place. Reference-counted, thread-safe as said above. */
typedef struct QcFile QcFile;

/* A second, in the unit of the engine's times. */
#define QC_NS_PER_SECOND INT64_C(1000000000)

/* What identifies a file and its state from outside; times are nanoseconds since the epoch. */
typedef struct QcFileStat {
    uint64_t dev, ino;
    uint64_t rdev;      /* of a node of a device: which device, by whatever node */
    uint64_t size;      /* bytes; of a block device, its capacity */
    uint64_t allocated; /* bytes that the file occupies in its file system */
    int64_t mtime, ctime;
    int64_t btime; /* when it was made, later than a file that had its ino before; 0: not known */
    uint32_t mode, uid, gid; /* as in struct stat */
    int64_t now; /* just before it was asked, by the clock that the kernel takes such times from */
} QcFileStat;

/* How far what is read of a file holds while its stat stays the same. In this order. */
typedef enum QcTrust {
    QC_TRUST_NOTHING,  /* a later write might not show in the stat */
    QC_TRUST_READING,  /* it shows, unless it is through a mapping where that does not; but writes
                        * may be under way of which the stat tells already */
    QC_TRUST_METADATA, /* such are only of a process that takes part in QEMU's locks */
    QC_TRUST_ALL,      /* there are none */
} QcTrust;

/*
 * What a file can do. Each returns 0 or what it says, or a negative errno; close never fails, and
 * is called once, by the last qc_file_unref().
 */
typedef struct QcFileOps {
    /* Like pread(2) and pwrite(2); may transfer less than asked. */
    ssize_t (*pread)(QcFile *file, void *buf, size_t len, uint64_t offset);
    ssize_t (*pwrite)(QcFile *file, const void *buf, size_t len, uint64_t offset);
    /* See qc_file_read_past(). As pread, or 0 or less where pread has to do. NULL: it always has.
     */
    ssize_t (*pread_past)(QcFile *file, uint64_t pass, void *buf, size_t len, uint64_t offset);
    /* Everything written before is durable when this returns 0. */
    int (*sync)(QcFile *file);
    /* As it is now, not as this machine remembers it: see qc_file_stat_at(). */
    int (*stat)(QcFile *file, QcFileStat *ret);
    /* Set the length. -EINVAL on a block device. */
    int (*truncate)(QcFile *file, uint64_t size);
    /* Offset of the next data (or, with hole, the next hole) at or after offset;
     * -ENXIO when there is no more data. */
    int64_t (*seek)(QcFile *file, uint64_t offset, bool hole);
    /* Take (or drop) a shared lock on one byte. -EAGAIN or -EACCES: another open file excludes it.
     * To drop one may take a while, as to close: see qc_file_new_fd(). */
    int (*lock)(QcFile *file, unsigned byte, bool take);
    /* 1 when another open file has a lock on one of the n bytes from first on, 0 when not. */
    int (*lock_held)(QcFile *file, unsigned first, unsigned n);
    /* As lock_held for one byte, where the answer of that may be wrong: by taking an exclusive lock
     * for a moment. ours: there is a shared lock of ours on it, which stays. NULL: it is right. */
    int (*lock_held_surely)(QcFile *file, unsigned byte, bool ours);
    /* 1 when a process has the file open for writing, or mapped so; 0 when none has; an error when
     * that cannot be told: of a block device, of a file opened for writing itself, on a network
     * file system. */
    int (*has_writer)(QcFile *file);
    /* See qc_file_refresh(). NULL: there is nothing to do. */
    void (*refresh)(QcFile *file, uint64_t offset, uint64_t len);
    void (*close)(QcFile *file);
} QcFileOps;

/* An implementation has it as the first member of its own struct. */
struct QcFile {
    const QcFileOps *ops; /* outlives it */
    gatomicrefcount refs;
};

/* Fill in the common part of a file that implements ops; its reference count is 1, the caller's. */
void qc_file_init(QcFile *file, const QcFileOps *ops);

/*
 * A QcFile on an open descriptor of a regular file or block device. Takes ownership of fd,
 * also when it fails. -EINVAL when fd is neither of the two; -ENOMEM.
 *
 * When writing has let a regular file grow, to drop a lock or to close it sleeps until 50 ms after
 * that. A program that opened the file before it grew, and so knows a wrong length of it, finds it
 * locked when it comes to lock it.
 *
 * A first pass (qc_file_read_past) of a file of 64 MiB or more goes past the page cache when, as it
 * begins, has_writer says that there is none, and next to nothing of the file is in the cache; and
 * until another pass begins. The file is opened once more for it.
 *
 * has_writer takes a lease for a moment. If a program opens the file for writing just then, the
 * kernel sends this process SIGURG, which does nothing unless the process handles it.
 */
int qc_file_new_fd(int fd, QcFile **ret);

/* The descriptor of a file made by qc_file_new_fd, else -1. It stays the file's. */
int qc_file_fd(const QcFile *file);

QcFile *qc_file_ref(QcFile *file); /* one more reference; returns file */
/* Drop one. The last closes the file, and drops its locks; see qc_file_new_fd(). Accepts NULL. */
void qc_file_unref(QcFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcFile, qc_file_unref)

/* These return 0, or as the operation fails. */

/* Read what comes at once, at most len bytes; 0: at or past the end. -EINTR is retried. */
ssize_t qc_file_read_some(QcFile *file, void *buf, size_t len, uint64_t offset);
/* Read exactly len bytes. -EINTR is retried; the file ending early is -ENODATA. */
int qc_file_read(QcFile *file, void *buf, size_t len, uint64_t offset);
/* Read len bytes; what lies past the end of the file is filled with zeros. */
int qc_file_read_padded(QcFile *file, void *buf, size_t len, uint64_t offset);
/*
 * Read exactly len bytes as a part of a pass over much of the file, which the caller has given a
 * number, not 0. The first pass since the file was opened leaves the kernel's page cache alone, as
 * far as that can be done: see qc_file_new_fd(). Fails as qc_file_read().
 */
int qc_file_read_past(QcFile *file, uint64_t pass, void *buf, size_t len, uint64_t offset);
/* Write exactly len bytes. A short write is continued; one that makes no progress is -EIO. */
int qc_file_write(QcFile *file, const void *buf, size_t len, uint64_t offset);
/* Make all that was written durable. -EINTR is retried. */
int qc_file_sync(QcFile *file);

/* The rest of what a file can do: see QcFileOps. */
int qc_file_stat(QcFile *file, QcFileStat *ret);
int qc_file_truncate(QcFile *file, uint64_t size);
int64_t qc_file_seek(QcFile *file, uint64_t offset, bool hole);
int qc_file_lock(QcFile *file, unsigned byte, bool take);
int qc_file_lock_held(QcFile *file, unsigned first, unsigned n);
int qc_file_lock_held_surely(QcFile *file, unsigned byte, bool ours);
int qc_file_has_writer(QcFile *file);
/*
 * Where the next data at or after offset begins, for a caller that passes over holes: UINT64_MAX
 * when there is no more, offset itself when that cannot be told. Never less than offset.
 */
uint64_t qc_file_next_data(QcFile *file, uint64_t offset);
/*
 * Have bytes that are read from now on come from the storage, also those that this machine
 * remembers: another machine may write to the same block device. Does nothing on other files. len
 * 0: all from offset on. Not for each read: what is near is forgotten, too.
 */
void qc_file_refresh(QcFile *file, uint64_t offset, uint64_t len);

/*
 * The state of a file by name, flags as of statx(2); of a descriptor with "" and AT_EMPTY_PATH.
 * On a network file system the server is asked: what other machines changed shows. Of a
 * block device, size is 0. -errno as statx(2).
 */
int qc_file_stat_at(int dirfd, const char *path, int flags, QcFileStat *ret);

/*
 * Whether a file made by qc_file_new_fd lies on a file system that only this machine's kernel
 * changes, as far as that is known: so what the kernel tells of it is all that there is to tell.
 */
bool qc_file_is_local(const QcFile *file);

/*
 * Whether the times of such a file are taken from this machine's clock, as far as that is known;
 * true of a file of another kind.
 */
bool qc_file_has_our_clock(const QcFile *file);

/*
 * Whether a write through a mapping changes the times of such a file when the page is first written
 * to, as far as that is known; true of a file of another kind.
 */
bool qc_file_times_mapped_writes(const QcFile *file);

/*
 * Whether two stats are of the same file, in whatever state: by dev and ino, which are a file's own
 * as long as it exists. btime does not count, as overlayfs gives a file another one when it is
 * first opened for writing. Only a caller that keeps a stat while the file may go, so that another
 * one gets its ino, has to compare btime too.
 */
bool qc_file_same_file(const QcFileStat *a, const QcFileStat *b);

/* Whether two stats are of the same file in the same state, as far as they tell. */
bool qc_file_same_stat(const QcFileStat *a, const QcFileStat *b);

/*
 * Wait until the file's ctime is old enough that a later write must change it: some 20 ms; where
 * times are kept in whole seconds, or by another machine, two seconds, four at most. Of a file that
 * is written to all the time it never is: the wait ends when the ctime has changed twice, which
 * takes some 40 ms, or two seconds. What is opened then is not current. Call it before
 * qc_image_open where the result is to be current for long. ret (may be NULL) gets the file's stat
 * after that. The errors of stat.
 */
int qc_file_settle(QcFile *file, QcFileStat *ret);

G_END_DECLS
#endif
