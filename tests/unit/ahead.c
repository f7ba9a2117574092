/* Reading ahead: whoever reads in order gets the right bytes from it, whoever does not, nothing. */
#include "ahead.h"
#include "countfile.h"
#include "view.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>

enum {
    SIZE = 20 * AHEAD_CHUNK + 1024, /* bytes of the disk; the last chunk is short */
    LONG = 70 * AHEAD_CHUNK,        /* more than there may be chunks */
    PIECES = 8,
};

typedef struct Disk {
    CountFile *file;
    QcCache *cache;
    QcImage *image;
    QcChain *chain;
    QcView *view; /* borrowed */
    AheadPool *pool;
} Disk;

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at / 3 ^ at >> 16);
}

static Disk new_disk_of(size_t size, gint64 idle_us)
{
    Disk d = {.cache = qc_cache_new(1 << 20), .pool = ahead_pool_new(3, idle_us)};
    g_autofree uint8_t *bytes = g_malloc(size);

    for (uint64_t i = 0; i < size; i++)
        bytes[i] = byte_at(i);
    d.file = count_file_new(sparse_file_new());
    cr_assert_eq(0, qc_file_write(count_file(d.file), bytes, size, 0));
    cr_assert_eq(0,
                 qc_image_open(count_file(d.file), "disk", QC_FORMAT_RAW, d.cache, &d.image, NULL));
    cr_assert_eq(0, qc_chain_open(NULL, d.image, d.cache, &d.chain));
    d.view = qc_chain_view(d.chain, 0);
    return d;
}

static Disk new_disk(void)
{
    return new_disk_of(SIZE, AHEAD_IDLE_US);
}

static void free_disk(Disk *d)
{
    ahead_pool_free(d->pool);
    qc_chain_free(d->chain);
    qc_image_unref(d->image);
    qc_cache_unref(d->cache);
    qc_file_unref(count_file(d->file));
}

/* Read a range through it, and check the bytes. Whether it had them. */
static bool get(Ahead *ahead, QcView *view, uint64_t offset, size_t len)
{
    AheadChunk *chunks[PIECES];
    unsigned n = ahead_get(ahead, view, offset, len, chunks);
    uint64_t at = offset;

    for (unsigned i = 0; i < n; i++) {
        size_t part;
        const uint8_t *bytes = ahead_chunk_bytes(chunks[i], at, (size_t)(offset + len - at), &part);

        for (size_t j = 0; j < part; j++)
            cr_assert_eq(bytes ? bytes[j] : 0, byte_at(at + j));
        at += part;
        ahead_chunk_unref(chunks[i]);
    }
    cr_assert(n == 0 || at == offset + len);
    return n > 0;
}

/* Read the disk from end to end. Whether some of it was read ahead. */
static bool read_all_of(Ahead *ahead, QcView *view)
{
    bool served = false;

    for (uint64_t at = 0; at < SIZE; at += 65536)
        served |= get(ahead, view, at, (size_t)MIN(65536, SIZE - at));
    return served;
}

Test(ahead, a_reader_in_order_is_served)
{
    static const size_t lengths[] = {4096, 131072, 262144, 300000, 1048576};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        Disk d = new_disk();
        Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
        uint64_t served = 0;

        for (uint64_t at = 0; at < SIZE; at += lengths[i]) {
            size_t len = (size_t)MIN(lengths[i], SIZE - at);

            served += get(ahead, d.view, at, len) ? len : 0;
        }
        cr_expect_geq(served, SIZE - 2 * AHEAD_CHUNK, "%zu bytes at a time", lengths[i]);
        ahead_free(ahead);
        free_disk(&d);
    }
}

Test(ahead, requests_may_overtake_one_another)
{
    Disk d = new_disk();
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
    const size_t len = AHEAD_CHUNK;

    for (uint64_t at = 0; at + 2 * len <= SIZE; at += 2 * len) {
        get(ahead, d.view, at + len, len);
        cr_expect(get(ahead, d.view, at, len) || at == 0, "%" G_GUINT64_FORMAT, at);
    }
    ahead_free(ahead);
    free_disk(&d);
}

/* To what is not there any more, and on into what still is. */
Test(ahead, a_request_may_go_back)
{
    Disk d = new_disk();
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
    const size_t len = 4096;

    for (uint64_t at = 0; at < 8 * AHEAD_CHUNK; at += len)
        get(ahead, d.view, at, len);
    cr_expect_not(get(ahead, d.view, 4 * AHEAD_CHUNK, 4 * AHEAD_CHUNK));
    cr_expect(get(ahead, d.view, 8 * AHEAD_CHUNK, len));
    ahead_free(ahead);
    free_disk(&d);
}

/* Once there is another view, what was read ahead of the one before is of no use. */
Test(ahead, what_was_read_of_another_view_is_dropped)
{
    Disk d = new_disk();
    QcFile *zeros = sparse_file_new();
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
    uint64_t at = 0;
    unsigned served = 0;

    cr_assert_eq(0, qc_file_truncate(zeros, SIZE));
    cr_assert_eq(0, qc_image_open(zeros, "zeros", QC_FORMAT_RAW, d.cache, &image, NULL));
    cr_assert_eq(0, qc_chain_open(NULL, image, d.cache, &chain));
    for (; at < 4 * AHEAD_CHUNK; at += 65536)
        served += get(ahead, d.view, at, 65536);
    cr_assert_gt(served, 0);
    for (served = 0; at < 8 * AHEAD_CHUNK; at += 65536) {
        AheadChunk *chunks[PIECES];
        unsigned n = ahead_get(ahead, qc_chain_view(chain, 0), at, 65536, chunks);

        served += n;
        for (unsigned i = 0; i < n; i++) {
            size_t part;
            const uint8_t *bytes = ahead_chunk_bytes(chunks[i], at, 1, &part);

            cr_assert(!bytes || bytes[0] == 0, "at %" G_GUINT64_FORMAT, at);
            ahead_chunk_unref(chunks[i]);
        }
    }
    cr_expect_gt(served, 0);
    ahead_free(ahead);
    qc_file_unref(zeros);
    free_disk(&d);
}

Test(ahead, a_reader_at_random_reads_himself)
{
    Disk d = new_disk();
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
    uint64_t at = 12345;

    for (unsigned i = 0; i < 1000; i++) {
        at = (at * 2654435761u + 1013904223u) % (SIZE - 4096);
        cr_assert_not(get(ahead, d.view, at, 4096));
    }
    ahead_free(ahead);
    free_disk(&d);
}

/* All reads of one open file are of one pass, those of another one of another; or of none. */
Test(ahead, whose_reading_is_a_pass)
{
    Disk d = new_disk();
    Ahead *first = ahead_new(d.pool, AHEAD_PASSES), *second = ahead_new(d.pool, AHEAD_PASSES);
    Ahead *other = ahead_new(d.pool, AHEAD_WAITS);

    cr_expect_neq(ahead_pass(first), 0);
    cr_expect_neq(ahead_pass(second), 0);
    cr_expect_neq(ahead_pass(first), ahead_pass(second));
    cr_expect_eq(ahead_pass(other), 0);

    cr_expect(read_all_of(other, d.view));
    cr_expect_eq(d.file->past, 0);
    cr_expect(read_all_of(second, d.view));
    cr_expect_gt(d.file->past, 0);
    cr_expect_eq(d.file->pass, ahead_pass(second));
    ahead_free(first);
    ahead_free(second);
    ahead_free(other);
    free_disk(&d);
}

/* More files than the bound on memory has chunks for: later ones take them from idle ones. */
Test(ahead, files_that_are_not_read_any_more_give_their_chunks_back)
{
    Disk d = new_disk_of(SIZE, 0);
    Ahead *files[10];

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        unsigned served = 0;

        files[i] = ahead_new(d.pool, AHEAD_WAITS);
        for (uint64_t at = 0; at < 12 * AHEAD_CHUNK; at += AHEAD_CHUNK)
            served += get(files[i], d.view, at, AHEAD_CHUNK);
        cr_expect_geq(served, 4, "file %zu", i);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        ahead_free(files[i]);
    free_disk(&d);
}

/* What lies behind the reader is let go of, or there would be no more. */
Test(ahead, a_long_file_is_served_to_its_end)
{
    Disk d = new_disk_of(LONG, AHEAD_IDLE_US);
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);
    unsigned served = 0;

    for (uint64_t at = 0; at < LONG; at += AHEAD_CHUNK)
        served += get(ahead, d.view, at, AHEAD_CHUNK);
    cr_expect_eq(served, LONG / AHEAD_CHUNK);
    ahead_free(ahead);
    free_disk(&d);
}

/* Where there are chunks left for a part of a request, it gets none: get() looks. */
Test(ahead, what_is_served_is_served_in_whole)
{
    Disk d = new_disk();
    Ahead *files[12];
    const size_t len = 5 * AHEAD_CHUNK;
    unsigned served = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        files[i] = ahead_new(d.pool, AHEAD_WAITS);
    for (uint64_t at = 0; at < 4 * len; at += len) {
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
            served += get(files[i], d.view, at, len);
    }
    cr_expect_gt(served, 0);
    cr_expect_lt(served, 4 * G_N_ELEMENTS(files), "there were chunks for all of them");
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        ahead_free(files[i]);
    free_disk(&d);
}

/* Read a chunk, without a look at the bytes, which takes time. Whether it was there. */
static bool get_fast(Ahead *ahead, QcView *view, uint64_t offset)
{
    AheadChunk *chunks[PIECES];
    unsigned n = ahead_get(ahead, view, offset, AHEAD_CHUNK, chunks);

    for (unsigned i = 0; i < n; i++)
        ahead_chunk_unref(chunks[i]);
    return n > 0;
}

/* As many, but all are read from in turn: what was read ahead for one is not thrown away. */
Test(ahead, files_that_are_read_do_not_rob_one_another)
{
    Disk d = new_disk_of(SIZE, G_MAXINT64);
    Ahead *files[16];
    uint64_t served = 0;

    count_file_reset(d.file);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        files[i] = ahead_new(d.pool, AHEAD_WAITS);
    for (uint64_t at = 0; at < 20 * AHEAD_CHUNK; at += AHEAD_CHUNK) {
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
            served += get_fast(files[i], d.view, at);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        ahead_free(files[i]);
    ahead_pool_free(g_steal_pointer(&d.pool)); /* nobody reads any more */
    cr_expect_geq(served, 20);
    cr_expect_leq(d.file->bytes, (served + 64) * AHEAD_CHUNK, "%" G_GUINT64_FORMAT " served",
                  served);
    free_disk(&d);
}

/* How many threads of this process may not run wherever this one may. */
static unsigned restricted(void)
{
    g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
    cpu_set_t all, set;
    unsigned n = 0;

    cr_assert(tasks);
    cr_assert_eq(0, sched_getaffinity(0, sizeof(all), &all));
    for (const char *id; (id = g_dir_read_name(tasks));)
        n += sched_getaffinity(atoi(id), sizeof(set), &set) == 0 && !CPU_EQUAL(&set, &all);
    return n;
}

/*
 * Read a disk some times, or until a thread is kept off a processor. Whether one was. waits: as
 * ahead_new(); pause: microseconds of doing something else after each read.
 */
static bool is_kept_free(bool waits, unsigned pause, unsigned rounds)
{
    Disk d = new_disk_of(LONG, AHEAD_IDLE_US);
    Ahead *ahead = ahead_new(d.pool, waits ? AHEAD_WAITS : 0);
    bool seen = false;

    for (unsigned round = 0; round < rounds && !seen; round++) {
        for (uint64_t at = 0; at < LONG; at += AHEAD_CHUNK) {
            get_fast(ahead, d.view, at);
            if (pause > 0)
                g_usleep(pause);
        }
        seen = restricted() > 0;
    }
    ahead_free(ahead);
    free_disk(&d);
    return seen;
}

/*
 * Each of these is a process of its own: a pool does not wait until its threads are gone from
 * /proc, so that restricted() would see those of the test before.
 */
static void needs_two_processors(void)
{
    if (g_get_num_processors() < 2)
        cr_skip_test("there is one processor only");
}

Test(ahead, threads_keep_off_who_does_nothing_but_read)
{
    needs_two_processors();
    cr_expect(is_kept_free(true, 0, 3000));
}

Test(ahead, threads_run_anywhere_for_who_reads_through_the_page_cache)
{
    needs_two_processors();
    cr_expect_not(is_kept_free(false, 0, 20));
}

Test(ahead, threads_run_anywhere_for_who_does_more_than_read)
{
    needs_two_processors();
    cr_expect_not(is_kept_free(true, 1000, 2));
}

Test(ahead, what_cannot_be_read_is_left_to_the_reader)
{
    Disk d = new_disk();
    Ahead *ahead = ahead_new(d.pool, AHEAD_WAITS);

    g_autoptr(QcView) broken = qc_view_new_broken(NULL, SIZE, -EIO);
    for (uint64_t at = 0; at + AHEAD_CHUNK < SIZE; at += AHEAD_CHUNK)
        cr_expect_not(get(ahead, broken, at, AHEAD_CHUNK));
    ahead_free(ahead);
    free_disk(&d);
}

typedef struct Racer {
    Disk *disk;
    Ahead *ahead;
    gint served; /* atomic */
} Racer;

static gpointer read_all(gpointer data)
{
    Racer *racer = data;

    for (unsigned round = 0; round < 3; round++)
        g_atomic_int_add(&racer->served, read_all_of(racer->ahead, racer->disk->view));
    return NULL;
}

Test(ahead, many_threads_on_one_file)
{
    Disk d = new_disk();
    Racer racer = {.disk = &d, .ahead = ahead_new(d.pool, AHEAD_WAITS)};
    GThread *threads[4];

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("racer", read_all, &racer);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    cr_expect_gt(racer.served, 0);
    ahead_free(racer.ahead);
    free_disk(&d);
}
