/*
 * Opening an image whose header changes while it is read: tried again, for a while. Somebody who
 * takes and deletes snapshots without a break must not make the image look broken.
 */
#include "countfile.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>

/* A file whose header reads differently, the first so many times. */
typedef struct Restless {
    unsigned reads, restless;
    bool broken;     /* no header of any version */
    unsigned n_read; /* reads of the header */
} Restless;

static void disturb(void *data, uint8_t *buf, ssize_t n, uint64_t offset)
{
    Restless *r = data;
    if (offset > 0)
        return;
    r->n_read++;
    if (r->broken)
        buf[7] = 99;
    if (n >= 88 && r->reads < r->restless)
        buf[80] = (uint8_t)++r->reads; /* a compatible feature that nobody knows */
}

static int open_it(Restless *r)
{
    CountFile *file = count_file_new(mem_file(script_image(&script_kinds[0], 1 << 20)));
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    file->on_read = disturb;
    file->on_read_data = r;
    int err = qc_image_open(count_file(file), "image", QC_FORMAT_QCOW2, cache, &image, NULL);
    qc_file_unref(count_file(file));
    return err;
}

static int open_restless(unsigned reads)
{
    return open_it(&(Restless){.restless = reads});
}

/* What is wrong and stays so is not tried again. */
Test(steady, a_header_that_is_broken)
{
    Restless broken = {.broken = true};
    cr_assert_neq(open_it(&broken), 0);
    cr_assert_leq(broken.n_read, 3, "%u reads", broken.n_read);
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
