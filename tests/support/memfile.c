/* memfile.c - see memfile.h. */
#include "memfile.h"
#include "be.h"
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>

static MemFile *self(QcFile *file)
{
    return (MemFile *)file;
}

/* The fault that is due in the next call, or 0. */
static int fault_in(MemFile *m, bool fail_on)
{
    int64_t n = m->calls++;
    bool due = m->fail_at >= 0 && (n == m->fail_at || (fail_on && n > m->fail_at));
    return due ? m->fail_error : 0;
}

static int fault(MemFile *m)
{
    return fault_in(m, m->fail_on);
}

/* The same for calls that transfer bytes: how many of len, or a negative errno. */
static ssize_t allowed(MemFile *m, size_t len)
{
    int err = fault(m);
    if (err < 0)
        return err;
    if (err == MEM_SHORT)
        len = (len + 1) / 2;
    return (ssize_t)(m->short_io ? MIN(len, 512) : len);
}

static ssize_t mem_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    MemFile *m = self(file);
    ssize_t n = allowed(m, len);
    if (n < 0 || offset >= m->data->len)
        return MIN(n, 0);
    n = (ssize_t)MIN((uint64_t)n, m->data->len - offset);
    memcpy(buf, m->data->data + offset, (size_t)n);
    return n;
}

static void record(MemFile *m, MemOpKind kind, uint64_t offset, uint64_t size, const void *bytes)
{
    if (!m->recording)
        return;
    MemOp op = {.kind = kind, .offset = offset, .size = size, .call = m->calls - 1};
    if (bytes)
        op.bytes = g_memdup2(bytes, size);
    g_array_append_val(m->log, op);
}

static void grow(MemFile *m, uint64_t size)
{
    guint old = m->data->len;
    g_byte_array_set_size(m->data, (guint)size);
    if (size > old)
        memset(m->data->data + old, 0, size - old);
}

static void store(MemFile *m, const void *bytes, uint64_t len, uint64_t offset)
{
    if (offset + len > m->data->len)
        grow(m, offset + len);
    memcpy(m->data->data + offset, bytes, len);
    m->mtime++;
    if (m->medium)
        store(m->medium, bytes, len, offset);
}

static ssize_t mem_pwrite(QcFile *file, const void *buf, size_t len, uint64_t offset)
{
    MemFile *m = self(file);
    ssize_t n = allowed(m, len);
    if (n < 0)
        return n;
    len = (size_t)n;
    if (offset > m->max_size || len > m->max_size - offset)
        return -EFBIG;
    record(m, MEM_WRITE, offset, len, buf);
    store(m, buf, len, offset);
    return (ssize_t)len;
}

static int mem_sync(QcFile *file)
{
    MemFile *m = self(file);
    int err = fault_in(m, m->fail_on || m->fail_syncs);
    record(m, err < 0 ? MEM_SYNC_FAILED : MEM_SYNC, 0, 0, NULL);
    if (err >= 0)
        m->late = 0;
    return MIN(err, 0);
}

static int mem_stat(QcFile *file, QcFileStat *ret)
{
    MemFile *m = self(file);
    int err = fault(m);
    if (err < 0 && err != -EINTR) /* these are never interrupted */
        return err;
    if (m->restless) {
        int64_t now = g_get_real_time() * 1000;
        m->mtime = now - now % m->restless;
    }
    *ret = (QcFileStat){.now = g_get_real_time() * 1000,
                        .dev = 1,
                        .ino = (uintptr_t)m,
                        .size = m->data->len,
                        .allocated = m->data->len,
                        .mtime = m->mtime,
                        .ctime = m->mtime,
                        .mode = (m->device ? S_IFBLK : S_IFREG) | 0644};
    return 0;
}

static int mem_truncate(QcFile *file, uint64_t size)
{
    MemFile *m = self(file);
    int err = fault(m);
    if (err < 0)
        return err;
    if (size > m->max_size)
        return -EFBIG;
    record(m, MEM_TRUNCATE, 0, size, NULL);
    grow(m, size);
    m->mtime++;
    return 0;
}

/* Whether the block that holds offset is a hole. */
static bool in_hole(const MemFile *m, uint64_t offset)
{
    static const uint8_t zeros[MEM_BLOCK];
    if (m->late && m->late / MEM_BLOCK == offset / MEM_BLOCK)
        return true;
    uint64_t start = offset / MEM_BLOCK * MEM_BLOCK, len = MIN(MEM_BLOCK, m->data->len - start);
    return m->sparse && memcmp(m->data->data + start, zeros, len) == 0;
}

static int64_t mem_seek(QcFile *file, uint64_t offset, bool hole)
{
    MemFile *m = self(file);
    int err = fault(m);
    if (err < 0 && err != -EINTR) /* these are never interrupted */
        return err;
    if (offset >= m->data->len)
        return -ENXIO;
    while (offset < m->data->len && in_hole(m, offset) != hole)
        offset = (offset / MEM_BLOCK + 1) * MEM_BLOCK;
    if (offset >= m->data->len)
        return hole ? (int64_t)m->data->len : -ENXIO;
    return (int64_t)offset;
}

/* Only what it is asked for: the kernel may forget more, but need not. */
static void mem_refresh(QcFile *file, uint64_t offset, uint64_t len)
{
    MemFile *m = self(file);
    if (!m->medium || offset >= m->data->len)
        return;
    len = len ? MIN(len, m->data->len - offset) : m->data->len - offset;
    memcpy(m->data->data + offset, m->medium->data->data + offset, len);
}

static int mem_lock(QcFile *file, unsigned byte, bool take)
{
    (void)file, (void)byte, (void)take;
    return 0;
}

static int mem_lock_held(QcFile *file, unsigned first, unsigned n)
{
    (void)first, (void)n;
    return self(file)->locked;
}

static int mem_has_writer(QcFile *file)
{
    return self(file)->writer;
}

static void clear_op(gpointer p)
{
    g_free(((MemOp *)p)->bytes);
}

static void mem_close(QcFile *file)
{
    MemFile *m = self(file);
    g_byte_array_unref(m->data);
    g_array_unref(m->log);
    g_free(m);
}

static const QcFileOps mem_ops = {
    .pread = mem_pread,
    .pwrite = mem_pwrite,
    .sync = mem_sync,
    .stat = mem_stat,
    .truncate = mem_truncate,
    .seek = mem_seek,
    .lock = mem_lock,
    .lock_held = mem_lock_held,
    .has_writer = mem_has_writer,
    .refresh = mem_refresh,
    .close = mem_close,
};

MemFile *mem_file_new(const void *bytes, size_t len)
{
    MemFile *m = g_new0(MemFile, 1);
    qc_file_init(&m->base, &mem_ops);
    m->data = g_byte_array_new();
    if (len > 0)
        g_byte_array_append(m->data, bytes, (guint)len);
    m->log = g_array_new(FALSE, FALSE, sizeof(MemOp));
    g_array_set_clear_func(m->log, clear_op);
    m->fail_at = -1;
    m->max_size = MEM_MAX_SIZE;
    return m;
}

MemFile *mem_file_copy(const MemFile *file)
{
    MemFile *copy = mem_file_new(file->data->data, file->data->len);
    copy->gate = file->gate;
    return copy;
}

void mem_file_assign(MemFile *file, const MemFile *other)
{
    g_byte_array_set_size(file->data, other->data->len);
    memcpy(file->data->data, other->data->data, other->data->len);
    file->gate = other->gate;
    file->mtime++;
}

void mem_file_record(MemFile *file)
{
    g_array_set_size(file->log, 0);
    file->calls = 0;
    file->recording = true;
}

void mem_file_apply(MemFile *file, const MemOp *op, uint64_t bytes)
{
    if (op->kind == MEM_WRITE)
        store(file, op->bytes, MIN(bytes, op->size), op->offset);
    else if (op->kind == MEM_TRUNCATE)
        grow(file, op->size);
}

void mem_keep_memory(void)
{
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

uint64_t mem_file_word(const MemFile *file, uint64_t at)
{
    be64 v;
    memcpy(&v, file->data->data + at, sizeof(v));
    return be64_get(v);
}

void mem_file_put_word(MemFile *file, uint64_t at, uint64_t x)
{
    be64 v = be64_make(x);
    memcpy(file->data->data + at, &v, sizeof(v));
}
