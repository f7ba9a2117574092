/* file.c - what all files have in common, whatever implements them. See qcow-file.h. */
#include "qcow-file.h"
#include <errno.h>
#include <string.h>

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

int qc_file_read_past(QcFile *file, uint64_t pass, void *buf, size_t len, uint64_t offset)
{
    bool can = file->ops->pread_past;
    ssize_t n = can ? file->ops->pread_past(file, pass, buf, len, offset) : 0;
    size_t done = (size_t)MAX(n, 0);
    return qc_file_read(file, (char *)buf + done, len - done, offset + done);
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

int qc_file_lock_held_surely(QcFile *file, unsigned byte, bool ours)
{
    return file->ops->lock_held_surely ? file->ops->lock_held_surely(file, byte, ours) : 0;
}

int qc_file_has_writer(QcFile *file)
{
    return file->ops->has_writer(file);
}

bool qc_file_same_file(const QcFileStat *a, const QcFileStat *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

void qc_file_refresh(QcFile *file, uint64_t offset, uint64_t len)
{
    if (file->ops->refresh)
        file->ops->refresh(file, offset, len);
}

bool qc_file_same_stat(const QcFileStat *a, const QcFileStat *b)
{
    return qc_file_same_file(a, b) && a->size == b->size && a->mtime == b->mtime &&
           a->ctime == b->ctime;
}
