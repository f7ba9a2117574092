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
    MAX_STRETCHES = 1024, /* of data, that are looked at for samples */
};

void qc_direct_init(QcDirect *direct)
{
    atomic_init(&direct->pass, 0);
    atomic_init(&direct->fd, -1);
    atomic_init(&direct->others, false);
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

/* Go to the next stretch of data, from *start up to *end; false: there is none. */
static bool next_data(QcFile *file, uint64_t *start, uint64_t *end)
{
    int64_t data = qc_file_seek(file, *end, false);
    int64_t hole = data < 0 ? data : qc_file_seek(file, (uint64_t)data, true);
    if (hole <= data)
        return false;
    *start = (uint64_t)data;
    *end = (uint64_t)hole;
    return true;
}

/* Not what the stat calls allocated: there, what is only reserved counts as well. */
static uint64_t bytes_of_data(QcFile *file)
{
    uint64_t bytes = 0, start, end = 0;
    for (unsigned i = 0; i < MAX_STRETCHES && next_data(file, &start, &end); i++)
        bytes += end - start;
    return bytes;
}

/* By samples from all over the file. */
static bool length_is_in_cache(QcFile *file, uint64_t size)
{
    size_t page = (size_t)getpagesize();
    unsigned n = 0;
    for (unsigned i = 0; i < SAMPLES && n < MANY_SAMPLES; i++)
        n += is_cached(qc_file_fd(file), size / SAMPLES * i / page * page, page);
    return n >= MANY_SAMPLES;
}

/* By samples from its data: the kernel keeps nothing of holes, which nobody reads. */
static bool data_is_in_cache(QcFile *file)
{
    size_t page = (size_t)getpagesize();
    uint64_t step = bytes_of_data(file) / SAMPLES + 1;
    uint64_t skip = 0; /* bytes of data up to the next sample */
    uint64_t start, end = 0;
    unsigned n = 0, samples = 0;
    for (unsigned i = 0; i < MAX_STRETCHES && next_data(file, &start, &end); i++) {
        for (; skip < end - start && n < MANY_SAMPLES && samples < SAMPLES; skip += step, samples++)
            n += is_cached(qc_file_fd(file), (start + skip) / page * page, page);
        skip -= MIN(skip, end - start);
    }
    return n >= MANY_SAMPLES;
}

/* The file opened for reading past the cache; -1: that is impossible, or of no use. */
static int open_past(QcFile *file)
{
    QcFileStat stat;
    char proc[32];
    if (qc_file_has_writer(file) != 0 || qc_file_stat(file, &stat) < 0 || stat.size < MIN_FILE ||
        stat.size > INT64_MAX || length_is_in_cache(file, stat.size) || data_is_in_cache(file))
        return -1;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", qc_file_fd(file));
    return open(proc, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
}

/* Whether pass is the first one, and still the only one. When it has just become the first, open
 * the file for it. */
static bool is_only(QcDirect *direct, QcFile *file, uint64_t pass)
{
    uint64_t first = 0;
    if (atomic_compare_exchange_strong(&direct->pass, &first, pass)) {
        atomic_store(&direct->fd, open_past(file));
    } else if (first != pass) {
        atomic_store(&direct->others, true);
    }
    return !atomic_load(&direct->others);
}

ssize_t qc_direct_read(QcDirect *direct, QcFile *file, uint64_t pass, void *buf, size_t len,
                       uint64_t offset)
{
    size_t page = (size_t)getpagesize();
    if (len < MIN_READ || offset > INT64_MAX || (len | offset | (uintptr_t)buf) % page != 0)
        return 0;
    if (!is_only(direct, file, pass))
        return 0;
    int fd = atomic_load(&direct->fd);
    ssize_t n = fd < 0 ? 0 : pread(fd, buf, len, (off_t)offset);
    return MAX(n, 0);
}
