/* countfile.c - see countfile.h. */
#include "countfile.h"
#include <sys/mman.h>

static CountFile *self(QcFile *file)
{
    return (CountFile *)file;
}

static ssize_t count_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    CountFile *c = self(file);
    ssize_t n = c->inner->ops->pread(c->inner, buf, len, offset);
    c->reads++;
    c->bytes += n > 0 ? (uint64_t)n : 0;
    if (c->on_read)
        c->on_read(c->on_read_data, buf, n, offset);
    return n;
}

static ssize_t count_pread_past(QcFile *file, uint64_t pass, void *buf, size_t len, uint64_t offset)
{
    CountFile *c = self(file);
    c->past++;
    c->pass = pass;
    return c->inner->ops->pread(c->inner, buf, len / 2, offset);
}

static ssize_t count_pwrite(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    CountFile *c = self(file);
    c->writes++;
    return c->inner->ops->pwrite(c->inner, buf, len, offset);
}

static int count_sync(QcFile *file)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->sync(inner);
}

static int count_stat(QcFile *file, QcFileStat *ret)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->stat(inner, ret);
}

static int count_truncate(QcFile *file, uint64_t size)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->truncate(inner, size);
}

static int64_t count_seek(QcFile *file, uint64_t offset, bool hole)
{
    CountFile *c = self(file);
    c->seeks++;
    return c->inner->ops->seek(c->inner, offset, hole);
}

static int count_lock(QcFile *file, unsigned byte, bool take)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->lock(inner, byte, take);
}

static int count_lock_held(QcFile *file, unsigned first, unsigned n)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->lock_held(inner, first, n);
}

static int count_has_writer(QcFile *file)
{
    QcFile *inner = self(file)->inner;
    return inner->ops->has_writer(inner);
}

static void count_close(QcFile *file)
{
    qc_file_unref(self(file)->inner);
    g_free(file);
}

static const QcFileOps count_ops = {
    .pread = count_pread,
    .pread_past = count_pread_past,
    .pwrite = count_pwrite,
    .sync = count_sync,
    .stat = count_stat,
    .truncate = count_truncate,
    .seek = count_seek,
    .lock = count_lock,
    .lock_held = count_lock_held,
    .has_writer = count_has_writer,
    .close = count_close,
};

CountFile *count_file_new(QcFile *inner)
{
    CountFile *c = g_new0(CountFile, 1);
    qc_file_init(&c->base, &count_ops);
    c->inner = inner;
    return c;
}

void count_file_reset(CountFile *file)
{
    file->reads = file->bytes = file->seeks = file->writes = file->past = 0;
}

QcFile *sparse_file_new(void)
{
    QcFile *file = NULL;
    int fd = memfd_create("sparse", MFD_CLOEXEC);
    if (fd < 0 || qc_file_new_fd(fd, &file) < 0)
        abort();
    return file;
}
