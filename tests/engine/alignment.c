/* Wherever reading begins and ends, within a cluster or part of one: the bytes are the same. */
#include "memfile.h"
#include "opened.h"
#include "script.h"

#include <criterion/criterion.h>
#include <string.h>

enum {
    DISK = 256 * 1024,
};

/* Bytes of the disk, of which 512 at a time are alike. */
static const Step writes[] = {
    {.kind = STEP_WRITE, .offset = 12288, .len = 8192, .seed = 1},
    {.kind = STEP_WRITE, .offset = 40965, .len = 10, .seed = 2},
    {.kind = STEP_WRITE, .offset = 65536 + 700, .len = 70000, .seed = 3},
};

static MemFile *sample(const Kind *kind, uint8_t expected[DISK])
{
    MemFile *file = script_image(kind, DISK);
    bool unknown;

    memset(expected, 0, DISK);
    for (size_t i = 0; i < G_N_ELEMENTS(writes); i++) {
        cr_assert_eq(0, script_run(file, &writes[i], &unknown));
        for (uint64_t k = 0; k < writes[i].len; k++)
            expected[writes[i].offset + k] = step_byte(&writes[i], k);
    }
    return file;
}

static void expect_in_pieces_of(QcView *view, const uint8_t *expected, size_t len)
{
    g_autofree uint8_t *part = g_malloc(len);

    for (uint64_t at = 0; at < DISK; at += len * 3 + 1) {
        ssize_t n = qc_view_read(view, part, len, at);

        cr_assert_eq(n, (ssize_t)MIN(len, DISK - at));
        cr_assert_eq(0, memcmp(part, expected + at, (size_t)n), "%zu bytes at %" G_GUINT64_FORMAT,
                     len, at);
    }
}

Test(alignment, every_one_reads_the_same_bytes)
{
    static const Kind kinds[] = {{"v3-4k", 3, 12, 16, false}, {"v3-16k-extl2", 3, 14, 16, true}};
    static const size_t lengths[] = {1, 7, 511, 4096, 5000, 20000, DISK};
    g_autofree uint8_t *expected = g_malloc(DISK);
    uint8_t byte;

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        MemFile *file = sample(&kinds[i], expected);
        g_auto(Opened) o = opened_new(mem_file(file), NULL);

        for (size_t l = 0; l < G_N_ELEMENTS(lengths); l++)
            expect_in_pieces_of(o.view, expected, lengths[l]);
        cr_expect_eq(qc_view_read(o.view, &byte, 1, DISK), 0);
        cr_expect_eq(qc_view_read(o.view, &byte, 1, UINT64_MAX - 3), 0);
        qc_file_unref(mem_file(file));
    }
}
