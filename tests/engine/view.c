/* Views: what can be read is right, what cannot is an error for that place only. */
#include "countfile.h"
#include "craft.h"
#include "format.h"
#include "memfile.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum {
    CLUSTER = 4096,
    DISK = 64 * CLUSTER,
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* An image with data in clusters 3, 4 and 10. */
static MemFile *sample(void)
{
    MemFile *file = script_image(&kind, DISK);
    bool unknown;
    Step a = {.kind = STEP_WRITE, .offset = 3 * CLUSTER, .len = 2 * CLUSTER, .seed = 1};
    Step b = {.kind = STEP_WRITE, .offset = 10 * CLUSTER + 5, .len = 10, .seed = 2};
    cr_assert_eq(0, script_run(file, &a, &unknown));
    cr_assert_eq(0, script_run(file, &b, &unknown));
    return file;
}

Test(view, holes_and_data_are_told_to_the_cluster)
{
    MemFile *file = sample();
    Opened o = opened_new(mem_file(file), NULL);
    static const struct {
        uint64_t from;
        bool hole;
        int64_t to;
    } cases[] = {
        {0, false, 3 * CLUSTER},
        {0, true, 0},
        {3 * CLUSTER, true, 5 * CLUSTER},
        {3 * CLUSTER + 7, false, 3 * CLUSTER + 7},
        {5 * CLUSTER, false, 10 * CLUSTER},
        {10 * CLUSTER, true, 11 * CLUSTER},
        {11 * CLUSTER, false, -ENXIO},
        {11 * CLUSTER, true, 11 * CLUSTER},
        {DISK, true, -ENXIO},
        {DISK, false, -ENXIO},
        {UINT64_MAX, false, -ENXIO},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        cr_expect_eq(qc_view_seek(o.view, cases[i].from, cases[i].hole), cases[i].to, "case %zu",
                     i);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* The host offset of a guest cluster. */
static uint64_t host_of(const Opened *o, uint64_t cluster)
{
    QcExtent e;
    cr_assert_eq(0, qc_view_map(o->view, cluster * CLUSTER, CLUSTER, &e));
    cr_assert_eq(e.kind, QC_EXTENT_DATA);
    return e.host_offset;
}

Test(view, clusters_past_the_end_of_the_file_are_errors_not_zeros)
{
    MemFile *file = sample();
    Opened o = opened_new(mem_file(file), NULL);
    uint64_t first = host_of(&o, 3), second = host_of(&o, 4);
    opened_clear(&o);
    cr_assert_lt(first, second);
    /* Move cluster 4 to where nothing is: in its L2 entry. */
    uint8_t *l2_entry = NULL;
    for (uint64_t at = 0; at + 16 < file->data->len && !l2_entry; at += 8) {
        be64 v;
        memcpy(&v, file->data->data + at, sizeof(v));
        if (be64_get(v) == (second | QC_COPIED))
            l2_entry = file->data->data + at;
    }
    cr_assert_not_null(l2_entry);
    uint64_t end = (file->data->len + UINT64_C(4095)) / CLUSTER * CLUSTER;
    size_t at = (size_t)(l2_entry - file->data->data);
    g_byte_array_set_size(file->data, (guint)end);
    const uint64_t places[] = {UINT64_C(1) << 40, end};
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        uint8_t buf[CLUSTER];
        mem_file_put_word(file, at, places[i] | QC_COPIED);
        o = opened_new(mem_file(file), NULL);
        cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER), CLUSTER);
        cr_expect_eq(qc_view_read(o.view, buf, 1, 4 * CLUSTER), -EIO);
        cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 5 * CLUSTER), CLUSTER);
        cr_expect_eq(qc_view_seek(o.view, 4 * CLUSTER, false), 4 * CLUSTER, "as data");
        opened_clear(&o);
    }
    qc_file_unref(mem_file(file));
}

/* What is kept of a table is as long as its first reader needed; here, one entry of an L1 table. */
Test(view, an_l1_table_that_is_an_l2_table_too_is_read_whole)
{
    MemFile *file = sample();
    be64 l1_at;
    memcpy(&l1_at, file->data->data + 40, sizeof(l1_at));
    be64 itself = be64_make(be64_get(l1_at) | QC_COPIED);
    memcpy(file->data->data + be64_get(l1_at), &itself, sizeof(itself));

    Opened o = opened_new(mem_file(file), NULL);
    uint8_t buf[CLUSTER];
    for (unsigned twice = 0; twice < 2; twice++) {
        cr_expect_eq(host_of(&o, 0), be64_get(l1_at));
        cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 0), CLUSTER);
        cr_expect_eq(0, memcmp(buf, file->data->data + be64_get(l1_at), CLUSTER));
        cr_expect_eq(qc_view_seek(o.view, CLUSTER, false), -ENXIO, "the rest is holes");
    }
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

enum { SMALL_SPAN = 64 * 512 }; /* what an L2 table maps of clusters of 512 bytes */

/* The L1 table of a snapshot, of so many entries, whose first one, which is 0, is the last that the
 * file has. The disk has three. */
static MemFile *with_cut_table(uint32_t entries)
{
    static const Kind small = {"v2-512", 2, 9, 16, false};
    MemFile *file = script_image(&small, 3 * SMALL_SPAN);
    Step take = {.kind = STEP_TAKE, .name = "s"};
    bool unknown;
    cr_assert_eq(0, script_run(file, &take, &unknown));

    uint64_t at = (file->data->len + 511) / 512 * 512, zero = 0;
    uint64_t entry = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    be32 n = be32_make(entries);
    mem_file_put_word(file, entry, at);
    memcpy(file->data->data + entry + offsetof(QcDiskSnapshot, l1_size), &n, sizeof(n));
    cr_assert_eq(0, qc_file_write(mem_file(file), &zero, sizeof(zero), at));
    return file;
}

Test(view, what_a_cut_l1_table_would_say_is_an_error_from_wherever_it_is_read)
{
    MemFile *file = with_cut_table(3);
    Opened o = opened_new(mem_file(file), NULL);
    g_autofree uint8_t *buf = g_malloc(3 * SMALL_SPAN);
    QcView *view;
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
    cr_expect_eq(qc_view_read(view, buf, SMALL_SPAN, 0), SMALL_SPAN);
    cr_expect_eq(qc_view_read(view, buf, 512, SMALL_SPAN), -EIO);
    cr_expect_eq(qc_view_read(view, buf, 2 * SMALL_SPAN, 0), -EIO);
    cr_expect_eq(qc_view_read(view, buf, 3 * SMALL_SPAN, 0), -EIO);
    cr_expect_eq(qc_view_seek(view, 0, false), SMALL_SPAN, "broken counts as data");
    qc_view_unref(view);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* Of what lies behind the table's own end it never said anything. */
Test(view, a_cut_l1_table_is_broken_up_to_its_end)
{
    static const uint8_t zeros[512];
    MemFile *file = with_cut_table(2);
    Opened o = opened_new(mem_file(file), NULL);
    uint8_t buf[512];
    QcExtent e;
    QcView *view;
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
    cr_assert_eq(0, qc_view_map(view, SMALL_SPAN, 2 * SMALL_SPAN, &e));
    cr_expect_eq(e.kind, QC_EXTENT_BAD);
    cr_expect_eq(e.length, SMALL_SPAN);
    cr_assert_eq(0, qc_view_map(view, SMALL_SPAN + 512, 1024, &e));
    cr_expect_eq(e.length, 1024);
    cr_expect_eq(qc_view_read(view, buf, 512, 2 * SMALL_SPAN), 512);
    cr_expect_arr_eq(buf, zeros, 512);
    qc_view_unref(view);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* A cluster, the last of the file, of which the file has no more than a byte. */
Test(view, behind_the_last_byte_of_the_file_are_zeros)
{
    static const uint8_t zeros[CLUSTER];
    MemFile *file = sample();
    Opened o = opened_new(mem_file(file), NULL);
    uint64_t l2 = mem_file_word(file, mem_file_word(file, 40)) & QC_OFFSET_MASK;
    uint64_t end = (file->data->len + UINT64_C(4095)) / CLUSTER * CLUSTER;
    uint8_t buf[CLUSTER];
    opened_clear(&o);
    g_byte_array_set_size(file->data, (guint)end + 1);
    file->data->data[end] = 77;
    mem_file_put_word(file, l2 + 3 * 8, end | QC_COPIED);
    o = opened_new(mem_file(file), NULL);
    memset(buf, 0xee, sizeof(buf));
    cr_expect_eq(CLUSTER, qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER));
    cr_expect_eq(buf[0], 77);
    cr_expect_arr_eq(buf + 1, zeros, CLUSTER - 1);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* What could not be read is not remembered as anything. */
Test(view, a_read_that_failed_leaves_nothing_behind)
{
    for (unsigned compressed = 0; compressed < 2; compressed++) {
        MemFile *file = sample();
        uint8_t want[CLUSTER], buf[CLUSTER];
        bool reached = true;
        if (compressed)
            craft_compress(file, 3, 1);
        file->mtime = 1; /* settled */
        Opened o = opened_new(mem_file(file), NULL);
        cr_assert_eq(CLUSTER, qc_view_read(o.view, want, CLUSTER, 3 * CLUSTER));
        opened_clear(&o);
        for (int64_t n = 0; reached; n++) {
            o = opened_new(mem_file(file), NULL);
            file->calls = 0;
            file->fail_at = n;
            file->fail_error = -EIO;
            ssize_t got = qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER);
            reached = file->calls > n;
            file->fail_at = -1;
            cr_expect_eq(got, reached ? -EIO : CLUSTER);
            cr_assert_eq(CLUSTER, qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER));
            cr_expect_arr_eq(buf, want, CLUSTER, "call %d", (int)n);
            opened_clear(&o);
        }
        qc_file_unref(mem_file(file));
    }
}

/* Of a read that has both, and of one that has none of it. */
Test(view, a_reading_says_whether_something_was_decoded)
{
    MemFile *file = sample();
    QcReading reading = {.decoded = true};
    uint8_t buf[2 * CLUSTER];

    craft_compress(file, 3, 1);
    Opened o = opened_new(mem_file(file), NULL);
    cr_assert_eq(CLUSTER, qc_view_fetch(o.view, buf, CLUSTER, 4 * CLUSTER, &reading));
    cr_expect_not(reading.decoded);
    cr_assert_eq(2 * CLUSTER, qc_view_fetch(o.view, buf, 2 * CLUSTER, 3 * CLUSTER, &reading));
    cr_expect(reading.decoded);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* Data of a pass goes past the page cache, as far as it comes that way; tables do not. */
Test(view, a_pass_goes_past_the_page_cache)
{
    CountFile *file = count_file_new(mem_file(sample()));
    uint8_t right[8 * CLUSTER], buf[sizeof(right)];
    Opened o = opened_new(count_file(file), NULL);
    QcReading none = {.pass = 0}, pass = {.pass = 5};
    cr_assert_eq(sizeof(buf), qc_view_fetch(o.view, right, sizeof(right), CLUSTER, &none));
    cr_expect_eq(file->past, 0);
    cr_assert_eq(sizeof(buf), qc_view_fetch(o.view, buf, sizeof(buf), CLUSTER, &pass));
    cr_expect_arr_eq(buf, right, sizeof(right));
    cr_expect_eq(file->past, 1);
    cr_expect_eq(file->pass, 5);
    opened_clear(&o);
    qc_file_unref(count_file(file));
}

/* What will not be read again soon is decoded to where it is wanted, where all of it is. */
Test(view, a_part_of_a_compressed_cluster_is_read_once)
{
    MemFile *file = sample();
    QcReading reading = {.once = true};
    uint8_t whole[CLUSTER], part[CLUSTER];

    craft_compress(file, 3, 1);
    Opened o = opened_new(mem_file(file), NULL);
    cr_assert_eq(CLUSTER, qc_view_fetch(o.view, whole, CLUSTER, 3 * CLUSTER, &reading));
    memset(part, 0xee, sizeof(part));
    cr_assert_eq(100, qc_view_fetch(o.view, part, 100, 3 * CLUSTER + 50, &reading));
    cr_expect(reading.decoded);
    cr_expect_eq(memcmp(part, whole + 50, 100), 0);
    cr_expect_eq(part[100], 0xee, "what is behind the part is not written to");
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* Extensions may fill the whole first cluster. */
Test(view, a_header_longer_than_a_page_is_read_whole)
{
    enum { LENGTH = 6000, NAME_AT = 112 + 8 + LENGTH + 8 };
    static const Kind large = {"v3-64k", 3, 16, 16, false};
    MemFile *file = script_image(&large, DISK);
    uint8_t *header = file->data->data;
    mem_file_put_word(file, 112, UINT64_C(0x12345678) << 32 | LENGTH);
    mem_file_put_word(file, 8, NAME_AT);
    header[19] = 4;
    memcpy(header + NAME_AT, "base", 4);
    Opened o = opened_new(mem_file(file), NULL);
    cr_expect_str_eq(qc_image_info(o.image)->backing_file, "base");
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* A raw file of any length is a disk of whole sectors. */
Test(view, a_raw_file_that_ends_within_a_sector_is_read_to_its_end)
{
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    uint8_t bytes[1000], buf[1024];
    memset(bytes, 'r', sizeof(bytes));
    MemFile *file = mem_file_new(bytes, sizeof(bytes));
    cr_assert_eq(0, qc_image_open(mem_file(file), "a.raw", QC_FORMAT_RAW, cache, &image, NULL));
    cr_assert_eq(0, qc_chain_open(NULL, image, cache, &chain));
    memset(buf, 0xee, sizeof(buf));
    cr_assert_eq(1024, qc_view_read(qc_chain_view(chain, 0), buf, 2000, 0));
    cr_expect_arr_eq(buf, bytes, 1000);
    for (unsigned i = 1000; i < 1024; i++)
        cr_expect_eq(buf[i], 0);
    qc_file_unref(mem_file(file));
}

/* A file that is cut off while it is open: what was there is no zeros now. */
Test(view, what_is_cut_off_later_is_an_error)
{
    MemFile *file = sample();
    Opened o = opened_new(mem_file(file), NULL);
    uint8_t buf[CLUSTER];
    guint whole = file->data->len;
    cr_expect_eq(CLUSTER, qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER));
    g_byte_array_set_size(file->data, CLUSTER);
    cr_expect_eq(-EIO, qc_view_read(o.view, buf, CLUSTER, 3 * CLUSTER));
    cr_expect_gt(whole, CLUSTER);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* A header that claims the largest disk: asking for data must not take forever. */
Test(view, a_huge_empty_disk_is_searched_at_once, .timeout = 60)
{
    Kind huge = {"v3-2M", 3, 21, 16, false};
    MemFile *file = script_image(&huge, UINT64_C(1) << 55);
    Opened o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_view_seek(o.view, 0, false), -ENXIO);
    cr_expect_eq(qc_view_seek(o.view, 0, true), 0);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* The file ends within the only entry: nothing of the disk is known. */
Test(view, an_image_whose_l1_table_is_cut_off_is_refused)
{
    MemFile *file = sample();
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    guint end = (file->data->len + CLUSTER - 1) / CLUSTER * CLUSTER;
    g_byte_array_set_size(file->data, end + 4);
    mem_file_put_word(file, offsetof(QcDiskHeader, l1_table_offset), end);
    cr_expect_eq(-EUCLEAN,
                 qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL));
    qc_file_unref(mem_file(file));
}

/* A file that ends in the middle of a table, not where a slice of it does. */
Test(view, of_a_table_that_is_cut_off_the_beginning_is_read)
{
    enum { LARGE = 65536, THERE = 1250, KEPT = THERE * 8 + 3 };
    static const Kind large = {"v3-64k", 3, 16, 16, false};
    MemFile *file = script_image(&large, 3000ull * LARGE);
    uint8_t byte;
    bool unknown;

    for (unsigned i = 0; i <= 2 * THERE; i += THERE - 1) {
        Step write = {.kind = STEP_WRITE, .offset = (uint64_t)i * LARGE, .len = 10, .seed = 7};
        cr_assert_eq(0, script_run(file, &write, &unknown));
    }
    uint64_t l1 = mem_file_word(file, 40), end = (file->data->len + LARGE - 1) / LARGE * LARGE;
    uint64_t l2 = mem_file_word(file, l1) & ~(UINT64_C(1) << 63);
    g_autofree uint8_t *table = g_memdup2(file->data->data + l2, KEPT);
    g_byte_array_set_size(file->data, (guint)end);
    g_byte_array_append(file->data, table, KEPT);
    mem_file_put_word(file, l1, end);

    Opened o = opened_new(mem_file(file), NULL);
    cr_expect_eq(1, qc_view_read(o.view, &byte, 1, 0));
    cr_expect_eq(1, qc_view_read(o.view, &byte, 1, (uint64_t)(THERE - 1) * LARGE));
    cr_expect_eq(byte, 7, "the last entry that is there in full");
    cr_expect_eq(-EIO, qc_view_read(o.view, &byte, 1, (uint64_t)THERE * LARGE));
    cr_expect_eq(-EIO, qc_view_read(o.view, &byte, 1, 2ull * (THERE - 1) * LARGE));
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

/* Opened for its disk only: that is the same, and no command takes what was not read for free. */
Test(view, of_an_image_whose_snapshots_were_not_read)
{
    MemFile *file = sample();
    Step take = {.kind = STEP_TAKE, .name = "s"};
    uint8_t byte = 0;
    bool unknown;
    QcCheck found;

    cr_assert_eq(0, script_run(file, &take, &unknown));
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_byte_array_append(before, file->data->data, file->data->len);

    Opened o = {.cache = qc_cache_new(1 << 20)};
    cr_assert_eq(
        0, qc_image_open_disk(mem_file(file), "mem", QC_FORMAT_QCOW2, o.cache, &o.image, NULL));
    cr_assert_eq(0, qc_chain_open(NULL, o.image, o.cache, &o.chain));
    cr_expect_eq(qc_image_info(o.image)->n_snapshots, 0);
    cr_expect_eq(1, qc_view_read(qc_chain_view(o.chain, 0), &byte, 1, 3 * CLUSTER));
    cr_expect_eq(byte, 1);
    cr_expect_eq(qc_view_check(qc_chain_view(o.chain, 0)), 0);
    cr_expect_eq(qc_snapshot_take(o.image, "t", 0, NULL, NULL), -EINVAL);
    cr_expect_eq(qc_image_check(o.image, NULL, &found, NULL), -EINVAL,
                 "it would find what it has not");
    g_autoptr(QcImage) header = NULL;
    cr_assert_eq(0, qc_image_open_header(mem_file(file), "mem", o.cache, &header));
    cr_expect_eq(qc_image_check(header, NULL, &found, NULL), -EINVAL);
    cr_expect_eq(qc_image_repair(header, NULL, NULL, NULL), -EINVAL, "it would free the snapshot");
    cr_expect_eq(before->len, file->data->len);
    cr_expect_arr_eq(before->data, file->data->data, before->len);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}
