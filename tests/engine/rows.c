/*
 * Clusters that lie in a row are counted together. What is found of them must be what is found when
 * they are counted one by one: for that, their entries stand in the opposite order.
 */
#include "checked.h"
#include "refs.h"
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

/* ---- rows that go on in the next table, and in the next refcount block ---------------------- */

enum {
    TABLES = 2,
    PER_BLOCK = 64, /* 64-bit counts in a cluster */
};

/* A disk whose clusters are one row of whole refcount blocks from *ret_first on, and whose tables
 * lie one behind the other. Its last cluster may be that of the first entry: then the row begins
 * with the second. */
static MemFile *make_one_row(bool last_first, uint64_t *ret_first)
{
    static const Kind wide = {"v3-512-64bit", 3, BITS, 64, false};
    static const Step repair = {.kind = STEP_REPAIR};
    MemFile *file = script_image(&wide, TABLES * ENTRIES << BITS);
    uint64_t used = (file->data->len + (1 << BITS) - 1) >> BITS;
    uint64_t first = (used / PER_BLOCK + 1) * PER_BLOCK, l2 = (first + TABLES * ENTRIES) << BITS;
    uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
    guint len = file->data->len, whole = (guint)(l2 + (TABLES << BITS));
    bool unknown;

    g_byte_array_set_size(file->data, whole);
    memset(file->data->data + len, 0, whole - len);
    for (uint64_t i = 0; i < TABLES; i++)
        mem_file_put_word(file, l1 + i * sizeof(be64), l2 + (i << BITS));
    for (uint64_t i = 0, n = TABLES * ENTRIES; i < n; i++)
        mem_file_put_word(file, l2 + i * sizeof(be64), (first + (i + n - last_first) % n) << BITS);
    cr_assert_eq(0, script_run(file, &repair, &unknown));
    *ret_first = first;
    return file;
}

static void expect_counts(MemFile *file, uint64_t first, uint64_t count)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    g_autoptr(QcRefs) refs = NULL;
    QcCheck found = check(file);

    cr_expect_eq(found.errors, 0);
    cr_expect_eq(found.leaks, 0);
    cr_assert_eq(0, qc_refs_load(o.image, &(QcMeter){0}, &refs, NULL));
    for (uint64_t i = first; i < first + TABLES * ENTRIES; i++)
        cr_assert_eq(qc_refs_get(refs, i), count, "cluster %" G_GUINT64_FORMAT, i - first);
}

static void expect_counted_once_for_each_disk(bool last_first)
{
    static const Step take = {.kind = STEP_TAKE, .name = "one"}, delete = {.kind = STEP_DELETE};
    uint64_t first;
    MemFile *file = make_one_row(last_first, &first);
    bool unknown;

    expect_counts(file, first, 1);
    cr_assert_eq(0, script_run(file, &take, &unknown));
    expect_counts(file, first, 2);
    cr_assert_eq(0, script_run(file, &delete, &unknown));
    expect_counts(file, first, 1);
    qc_file_unref(mem_file(file));
}

Test(rows, each_cluster_is_counted_once_for_each_disk)
{
    expect_counted_once_for_each_disk(false);
    expect_counted_once_for_each_disk(true);
}

/* Those before a cluster that cannot be counted stay counted, and no more than that. */
Test(rows, the_others_of_a_row_are_counted_all_the_same)
{
    for (unsigned place = 0; place < ENTRIES; place += 9) {
        uint64_t first;
        MemFile *file = make_one_row(false, &first);
        uint64_t l1 = mem_file_word(file, offsetof(QcDiskHeader, l1_table_offset));
        uint64_t at = (first + place) << BITS;

        memcpy(file->data->data + at, file->data->data + l1, 1 << BITS);
        mem_file_put_word(file, offsetof(QcDiskHeader, l1_table_offset), at);
        QcCheck found = check(file);
        cr_expect_eq(found.errors, 1, "with the table at %u", place);
        cr_expect_eq(found.leaks, 1, "where the table was");
        qc_file_unref(mem_file(file));
    }
}
