/*
 * checked.h - an image with a snapshot and a disk that is another since, to be checked, repaired or
 * disturbed, and what is to come of that.
 */
#ifndef TESTS_CHECKED_H
#define TESTS_CHECKED_H

#include "format.h"
#include "judge.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>

static inline MemFile *prepared_of_size(const Kind *kind, uint64_t size)
{
    static const Step history[] = {
        {.kind = STEP_WRITE, .len = 200000, .seed = 1},
        {.kind = STEP_TAKE, .name = "one"},
        {.kind = STEP_WRITE, .offset = 100000, .len = 100000, .seed = 2},
    };
    MemFile *file = script_image(kind, size);
    bool unknown;
    for (size_t i = 0; i < G_N_ELEMENTS(history); i++)
        cr_assert_eq(0, script_run(file, &history[i], &unknown));
    return file;
}

static inline MemFile *prepared(const Kind *kind)
{
    return prepared_of_size(kind, 300 * 1024);
}

/* Where the first refcount block lies. */
static inline uint64_t first_refcount_block(const MemFile *file)
{
    return mem_file_word(file, mem_file_word(file, offsetof(QcDiskHeader, refcount_table_offset)));
}

static inline QcCheck check(MemFile *file)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    QcCheck result;
    cr_assert_eq(0, qc_image_check(o.image, NULL, &result, NULL));
    return result;
}

static inline int repair_finding(MemFile *file, QcCheck *ret_found)
{
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(GError) error = NULL;
    int err = qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, &error);
    if (!err)
        err = qc_image_repair(image, NULL, ret_found, &error);
    cr_expect_eq(err < 0, error != NULL);
    return err;
}

static inline int repair(MemFile *file)
{
    return repair_finding(file, NULL);
}

static inline void expect_clean(MemFile *file, const char *digest)
{
    g_autofree char *wrong = judge_check(file), *now = judge_digest(file);
    QcCheck result = check(file);
    cr_expect_eq(result.errors, 0, "%s", result.first);
    cr_expect_eq(result.leaks, 0);
    cr_expect_null(wrong, "%s", wrong);
    if (digest)
        cr_expect_str_eq(now, digest);
}

/* Those that set all counts and flags right. */
static const Step mending[] = {
    {.kind = STEP_TAKE, .name = "two"},
    {.kind = STEP_REVERT},
    {.kind = STEP_DELETE},
    {.kind = STEP_RENAME, .name = "eins"},
};

#endif
