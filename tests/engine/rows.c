/*
 * Clusters that lie in a row are counted together. What is found of them must be what is found when
 * they are counted one by one: for that, their entries stand in the opposite order.
 */
#include "checked.h"
#include <string.h>

enum {
    BITS = 9,
    ENTRIES = 64, /* of an L2 table */
    ROW = 16,
    COPIES = 4, /* of the row, in one table */
    ROOM = 24,  /* clusters behind the image */
};

typedef struct Disk {
    MemFile *file;
    uint64_t l1, l2;
    uint64_t end; /* in clusters, of what is in use; ROOM more are there */
} Disk;

static const Kind kind = {"v3-512-2bit", 3, BITS, 2, false};

static Disk make_disk(void)
{
    static const Step write = {.kind = STEP_WRITE, .len = 1 << BITS, .seed = 1};
    Disk d = {.file = script_image(&kind, ENTRIES << BITS)};
    bool unknown;

    cr_assert_eq(0, script_run(d.file, &write, &unknown));
    d.l1 = mem_file_word(d.file, offsetof(QcDiskHeader, l1_table_offset));
    d.l2 = mem_file_word(d.file, d.l1) & QC_OFFSET_MASK;
    d.end = (d.file->data->len + (1 << BITS) - 1) >> BITS;
    guint len = d.file->data->len, whole = (guint)(d.end + ROOM) << BITS;
    g_byte_array_set_size(d.file->data, whole);
    memset(d.file->data->data + len, 0, whole - len);
    return d;
}

/* Let entries refer to a row of clusters, copies times; or backwards. */
static void put_rows(Disk *d, uint64_t first, unsigned copies, bool backwards)
{
    for (unsigned i = 0; i < ROW * copies; i++) {
        uint64_t cluster = first + (backwards ? ROW - 1 - i % ROW : i % ROW);

        mem_file_put_word(d->file, d->l2 + i * sizeof(uint64_t), cluster << BITS);
    }
}

static QcCheck found_in(uint64_t behind_end, unsigned copies, bool backwards)
{
    Disk d = make_disk();

    put_rows(&d, d.end + behind_end, copies, backwards);
    QcCheck found = check(d.file);
    qc_file_unref(mem_file(d.file));
    return found;
}

static void expect_same(const QcCheck *a, const QcCheck *b)
{
    cr_expect_eq(a->errors, b->errors);
    cr_expect_eq(a->leaks, b->leaks);
}

Test(rows, a_row_that_is_not_accounted_for)
{
    QcCheck row = found_in(0, 1, false), single = found_in(0, 1, true);

    expect_same(&row, &single);
    cr_expect_eq(row.errors, ROW);
}

Test(rows, each_cluster_past_the_end_is_found)
{
    enum { INSIDE = 5 };
    QcCheck row = found_in(ROOM - INSIDE, 1, false), single = found_in(ROOM - INSIDE, 1, true);
    Disk d = make_disk();
    g_autofree char *first =
        g_strdup_printf("the cluster at %#" G_GINT64_MODIFIER "x lies outside the file",
                        (guint64)(d.end + ROOM) << BITS);

    expect_same(&row, &single);
    cr_expect_eq(row.errors, ROW);
    cr_expect_str_eq(row.first, first);
    qc_file_unref(mem_file(d.file));
}

/* With 2 bits a cluster can be counted three times. */
Test(rows, each_cluster_that_is_used_too_often_is_found)
{
    QcCheck row = found_in(3, COPIES, false), single = found_in(3, COPIES, true);

    expect_same(&row, &single);
    cr_expect_eq(row.errors, 2 * ROW);
    cr_expect(g_str_has_suffix(row.first, "is referred to too often"), "%s", row.first);
}

/* The L1 table is moved into the row. */
static QcCheck found_with_table_at(unsigned place, bool backwards)
{
    Disk d = make_disk();
    uint64_t at = (d.end + place) << BITS;

    put_rows(&d, d.end, 1, backwards);
    memcpy(d.file->data->data + at, d.file->data->data + d.l1, 1 << BITS);
    mem_file_put_word(d.file, offsetof(QcDiskHeader, l1_table_offset), at);
    g_autofree char *first = g_strdup_printf(
        "the cluster at %#" G_GINT64_MODIFIER "x shares a cluster with a table", (guint64)at);
    QcCheck found = check(d.file);
    cr_expect_str_eq(found.first, first);
    qc_file_unref(mem_file(d.file));
    return found;
}

Test(rows, the_cluster_that_is_a_table_is_found)
{
    for (unsigned place = 0; place < ROW; place++) {
        QcCheck row = found_with_table_at(place, false), single = found_with_table_at(place, true);

        expect_same(&row, &single);
        cr_expect_eq(row.errors, ROW + 1, "with the table at %u", place);
    }
}
