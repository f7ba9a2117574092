/* direct.c - see direct.h. */
#include "direct.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MIN_FILE = 64 << 20,  /* bytes; of a smaller one, what the kernel has read ahead is too much */
    MIN_READ = 128 << 10, /* bytes; for less, the kernel's reading ahead is of more use */
    SAMPLES = 32,         /* pages that are looked for in the cache */
    MANY_SAMPLES = 4,     /* so many are there of a file that is in the cache in part */
};

void qc_direct_init(QcDirect *direct)
{
    atomic_init(&direct->pass, 0);
    atomic_init(&direct->fd, -1);
}

void qc_direct_clear(QcDirect *direct)
{
    int fd = atomic_load(&direct->fd);
    if (fd >= 0)
        close(fd);
}

/* Whether the page at an offset is in the cache; true when that cannot be told. */
static bool is_cached(int fd, uint64_t offset, size_t page)
{
    unsigned char state = 1;
    void *map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    if (map == MAP_FAILED)
        return true;
    bool cached = mincore(map, page, &state) < 0 || state & 1;
    munmap(map, page);
    return cached;
}

static bool is_in_cache(int fd, uint64_t size)
{
    size_t page = (size_t)getpagesize();
    unsigned n = 0;
    for (unsigned i = 0; i < SAMPLES && n < MANY_SAMPLES; i++)
        n += is_cached(fd, size / SAMPLES * i / page * page, page);
    return n >= MANY_SAMPLES;
}

/* The file opened for reading past the cache; -1: that is impossible, or of no use. */
static int open_past(QcFile *file)
{
    QcFileStat stat;
    char proc[32];
    int fd = qc_file_fd(file);
    if (qc_file_has_writer(file) != 0 || qc_file_stat(file, &stat) < 0 || stat.size < MIN_FILE ||
        stat.size > INT64_MAX || is_in_cache(fd, stat.size))
        return -1;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    return open(proc, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
}

/* Whether pass is the first one. When it has just become that, open the file for it. */
static bool is_first(QcDirect *direct, QcFile *file, uint64_t pass)
{
    uint64_t first = 0;
    if (atomic_compare_exchange_strong(&direct->pass, &first, pass)) {
        atomic_store(&direct->fd, open_past(file));
        return true;
    }
    return first == pass;
}

ssize_t qc_direct_read(QcDirect *direct, QcFile *file, uint64_t pass, void *buf, size_t len,
                       uint64_t offset)
{
    size_t page = (size_t)getpagesize();
    if (len < MIN_READ || offset > INT64_MAX || (len | offset | (uintptr_t)buf) % page != 0)
        return 0;
    if (!is_first(direct, file, pass))
        return 0;
    int fd = atomic_load(&direct->fd);
    ssize_t n = fd < 0 ? 0 : pread(fd, buf, len, (off_t)offset);
    return MAX(n, 0);
}
