/*
 * Opening an image whose header changes while it is read: tried again, for a while. Somebody who
 * takes and deletes snapshots without a break must not make the image look broken.
 */
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>

/* A file whose header reads differently, the first so many times. */
typedef struct Restless {
    QcFile base;
    QcFile *beneath;
    unsigned reads, restless;
    bool broken;      /* no header of any version */
    unsigned *n_read; /* reads of the header */
} Restless;

static Restless *of(QcFile *file)
{
    return (Restless *)file;
}

static ssize_t restless_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    Restless *r = of(file);
    ssize_t n = r->beneath->ops->pread(r->beneath, buf, len, offset);
    *r->n_read += offset == 0;
    if (offset == 0 && r->broken)
        ((uint8_t *)buf)[7] = 99;
    if (offset == 0 && n >= 88 && r->reads < r->restless)
        ((uint8_t *)buf)[80] = (uint8_t)++r->reads; /* a compatible feature that nobody knows */
    return n;
}

static int restless_stat(QcFile *file, QcFileStat *ret)
{
    return of(file)->beneath->ops->stat(of(file)->beneath, ret);
}

static int64_t restless_seek(QcFile *file, uint64_t offset, bool hole)
{
    return of(file)->beneath->ops->seek(of(file)->beneath, offset, hole);
}

static void restless_close(QcFile *file)
{
    qc_file_unref(of(file)->beneath);
    g_free(file);
}

static const QcFileOps restless_ops = {
    .pread = restless_pread,
    .stat = restless_stat,
    .seek = restless_seek,
    .close = restless_close,
};

static int open_it(unsigned reads, bool broken, unsigned *n_read)
{
    Restless *r = g_new0(Restless, 1);
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    qc_file_init(&r->base, &restless_ops);
    r->beneath = mem_file(script_image(&script_kinds[0], 1 << 20));
    r->restless = reads;
    r->broken = broken;
    r->n_read = n_read;
    int err = qc_image_open(&r->base, "image", QC_FORMAT_QCOW2, cache, &image, NULL);
    qc_file_unref(&r->base);
    return err;
}

static int open_restless(unsigned reads)
{
    unsigned n_read = 0;
    return open_it(reads, false, &n_read);
}

/* What is wrong and stays so is not tried again. */
Test(steady, a_header_that_is_broken)
{
    unsigned n_read = 0;
    cr_assert_neq(open_it(0, true, &n_read), 0);
    cr_assert_leq(n_read, 3, "%u reads", n_read);
}

Test(steady, a_header_that_comes_to_rest)
{
    cr_assert_eq(open_restless(0), 0);
    cr_assert_eq(open_restless(1), 0);
    cr_assert_eq(open_restless(25), 0);
}

Test(steady, a_header_that_does_not)
{
    cr_assert_eq(open_restless(200), -EAGAIN);
}
