/*
 * L2 tables of which a search says at one look that they hold nothing: only where all of a table is
 * there, and zeros. What is called a hole is copied by nobody.
 */
#include "format.h"
#include "memfile.h"
#include "opened.h"
#include "script.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum {
    CLUSTER = 4096,
    SPAN = 512 * CLUSTER, /* of an L2 table */
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* Blocks of zeros are holes of the file; there is data in cluster 5 of each of two tables. */
static MemFile *sample(void)
{
    MemFile *file = script_image(&kind, 2 * SPAN);
    bool unknown;

    for (uint64_t i = 0; i < 2; i++) {
        Step write = {
            .kind = STEP_WRITE, .offset = i * SPAN + 5 * CLUSTER, .len = CLUSTER, .seed = 1};
        cr_assert_eq(0, script_run(file, &write, &unknown));
    }
    file->sparse = true;
    return file;
}

static uint64_t l1_entry_at(const MemFile *file, unsigned slot)
{
    return mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset)) + slot * sizeof(be64);
}

static void fill_table(MemFile *file, unsigned slot, int byte)
{
    uint64_t at = mem_file_word(file, l1_entry_at(file, slot)) & QC_OFFSET_MASK;

    memset(file->data->data + at, byte, CLUSTER);
}

static void exchange_tables(MemFile *file)
{
    uint64_t first = l1_entry_at(file, 0), second = l1_entry_at(file, 1);
    uint64_t entry = mem_file_word(file, first);

    mem_file_put_word(file, first, mem_file_word(file, second));
    mem_file_put_word(file, second, entry);
}

static void expect_data(MemFile *file, int64_t expected)
{
    Opened o = opened_new(mem_file(file), NULL);

    cr_expect_eq(qc_view_seek(o.view, 0, false), expected);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* The one that is not lies behind the hole, or before it. */
Test(blank, a_table_in_a_hole_is_followed_by_one_that_is_not)
{
    for (unsigned i = 0; i < 2; i++) {
        MemFile *file = sample();

        if (i == 1)
            exchange_tables(file);
        fill_table(file, 0, 0);
        expect_data(file, SPAN + 5 * CLUSTER);
    }
}

Test(blank, two_tables_of_zeros)
{
    MemFile *file = sample();

    fill_table(file, 0, 0);
    fill_table(file, 1, 0);
    expect_data(file, -ENXIO);
}

/* The file ends within it: what the entries behind the end were is not known. */
Test(blank, a_table_that_is_cut_off)
{
    enum { THERE = 12 };
    MemFile *file = sample();
    guint end = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
    guint len = file->data->len;

    g_byte_array_set_size(file->data, end + THERE * sizeof(be64));
    memset(file->data->data + len, 0, file->data->len - len);
    mem_file_put_word(file, l1_entry_at(file, 0), end);
    expect_data(file, THERE * CLUSTER);
}

/* All of its bytes are the same, and not zeros; no entry of it can be read. */
Test(blank, a_table_of_one_other_byte)
{
    MemFile *file = sample();

    fill_table(file, 0, 0x80);
    expect_data(file, 0);
}

/* Zeros are zeros, though they have a place, and the file does not reach as far. */
Test(blank, a_cluster_of_zeros_whose_place_is_not_there)
{
    MemFile *file = sample();
    uint64_t at = mem_file_word(file, l1_entry_at(file, 0)) & QC_OFFSET_MASK;

    mem_file_put_word(file, at + 5 * sizeof(be64), UINT64_C(1) << 40 | QC_ZERO);
    expect_data(file, SPAN + 5 * CLUSTER);
}
