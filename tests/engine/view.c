/* Views: what can be read is right, what cannot is an error for that place only. */
#include "countfile.h"
#include "craft.h"
#include "format.h"
#include "memfile.h"
#include "script.h"
#include "stack.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

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

/* The L1 table of a snapshot whose first entry, which is 0, is the last that the file has. */
Test(view, what_a_cut_l1_table_would_say_is_an_error_from_wherever_it_is_read)
{
    static const Kind small = {"v2-512", 2, 9, 16, false};
    enum { SPAN = 64 * 512 }; /* what an L2 table maps */
    MemFile *file = script_image(&small, 3 * SPAN);
    Step take = {.kind = STEP_TAKE, .name = "s"};
    bool unknown;
    cr_assert_eq(0, script_run(file, &take, &unknown));

    uint64_t at = (file->data->len + 511) / 512 * 512, zero = 0;
    be64 snapshots, l1_at = be64_make(at);
    memcpy(&snapshots, file->data->data + 64, sizeof(snapshots));
    memcpy(file->data->data + be64_get(snapshots), &l1_at, sizeof(l1_at));
    cr_assert_eq(0, qc_file_write(mem_file(file), &zero, sizeof(zero), at));

    Opened o = opened_new(mem_file(file), NULL);
    g_autofree uint8_t *buf = g_malloc(3 * SPAN);
    QcView *view;
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
    cr_expect_eq(qc_view_read(view, buf, SPAN, 0), SPAN);
    cr_expect_eq(qc_view_read(view, buf, 512, SPAN), -EIO);
    cr_expect_eq(qc_view_read(view, buf, 2 * SPAN, 0), -EIO);
    cr_expect_eq(qc_view_read(view, buf, 3 * SPAN, 0), -EIO);
    cr_expect_eq(qc_view_seek(view, 0, false), SPAN, "broken counts as data");
    qc_view_unref(view);
    opened_clear(&o);
    qc_file_unref(mem_file(file));
}

static void write_in(QcFile *file, QcGate *gate, uint64_t offset, uint8_t value)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    memset(bytes, value, CLUSTER);
    g_auto(Opened) o = opened_new(file, gate);
    cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes, CLUSTER, offset, NULL, NULL));
}

/* A layer on top of another, of which only the lower one has data: a cluster of 'b'. */
static Stack overlay_and_base(void)
{
    Stack s = new_directory();
    make_layer(&s, DISK, 12);
    make_layer(&s, DISK, 12);
    write_in(s.made[0], s.gate, 0, 'b');
    return s;
}

Test(view, a_missing_layer_takes_only_its_own_bytes_with_it)
{
    Stack s = overlay_and_base();
    g_autofree char *base_path = path_of(&s, 0);
    QcFile *base = s.made[0], *top = s.made[1];
    write_in(top, s.gate, CLUSTER, 't');

    uint8_t buf[CLUSTER];
    Step take = {.kind = STEP_TAKE, .name = "one"};
    bool unknown;
    cr_assert_eq(0, script_run_on(top, s.gate, &take, &unknown));
    qc_file_settle(top, NULL);
    Opened o = open_stack(&s, 1, O_RDWR);
    cr_expect_null(qc_chain_error(o.chain));
    cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 0), CLUSTER);
    cr_expect_eq(buf[0], 'b');
    cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, CLUSTER), CLUSTER);
    cr_expect_eq(buf[0], 't');
    cr_expect_eq(qc_view_check(o.view), 0);
    write_in(base, s.gate, 0, 'c');
    cr_expect_eq(qc_view_check(o.view), -ESTALE, "a layer changed");
    opened_clear(&o);

    g_unlink(base_path);
    o = opened_new(top, s.gate);
    cr_expect_not_null(qc_chain_error(o.chain));
    cr_expect_eq(qc_chain_layers(o.chain), 1);
    cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 0), -EIO);
    cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, CLUSTER), CLUSTER);
    cr_expect_eq(buf[0], 't');

    g_autoptr(QcView) snapshot = NULL;
    cr_expect_eq(qc_chain_snapshot_view(o.chain, 1, &snapshot), -ENOENT);
    cr_assert_eq(qc_chain_snapshot_view(o.chain, 0, &snapshot), 0);
    cr_expect_eq(qc_view_read(snapshot, buf, CLUSTER, 0), -EIO, "nor are they zeros of the past");
    cr_expect_eq(qc_view_read(snapshot, buf, CLUSTER, CLUSTER), CLUSTER);
    opened_clear(&o);
    remove_stack(&s);
}

Test(view, a_layer_with_a_broken_snapshot_table_keeps_its_bytes)
{
    Stack s = overlay_and_base();
    be64 nowhere = be64_make(UINT64_C(1) << 40);
    be32 one = be32_make(1);
    cr_assert_eq(qc_file_write(s.made[0], &one, sizeof(one), 60), 0);
    cr_assert_eq(qc_file_write(s.made[0], &nowhere, sizeof(nowhere), 64), 0);
    g_autofree char *base_path = path_of(&s, 0); /* nobody has it open for writing any more */
    qc_file_unref(s.made[0]);
    cr_assert_eq(0, qc_file_new_fd(open(base_path, O_RDONLY | O_CLOEXEC), &s.made[0]));
    cr_assert_eq(0, qc_file_settle(s.made[0], NULL));

    uint8_t byte;
    Opened o = open_stack(&s, 1, O_RDWR);
    cr_expect_not_null(strstr(qc_chain_error(o.chain), "the snapshot table lies past the end"));
    cr_expect_eq(qc_chain_layers(o.chain), 2);
    cr_expect_eq(qc_view_read(o.view, &byte, 1, 0), 1);
    cr_expect_eq(byte, 'b');
    cr_expect(qc_chain_error_stands(o.chain, s.gate));

    g_autoptr(QcChain) again = NULL;
    cr_assert_eq(0, qc_chain_open_like(s.gate, o.image, o.cache, o.chain, &again));
    cr_expect_not_null(qc_chain_error(again), "also of a layer that is taken over");
    opened_clear(&o);
    remove_stack(&s);
}

/* What such a layer holds nobody can read; but where it ends, there are zeros. */
Test(view, a_layer_that_is_not_supported_may_change_its_size)
{
    Stack s = overlay_and_base();
    be32 method = be32_make(QC_ENCRYPTION_AES);
    be64 half = be64_make(DISK / 2), whole = be64_make(DISK);
    cr_assert_eq(qc_file_write(s.made[0], &method, sizeof(method), 32), 0);
    cr_assert_eq(qc_file_write(s.made[0], &half, sizeof(half), 24), 0);
    cr_assert_eq(0, qc_file_settle(s.made[0], NULL));

    uint8_t byte = 'x';
    Opened o = open_stack(&s, 1, O_RDWR);
    cr_expect_not_null(strstr(qc_chain_error(o.chain), "not supported"));
    cr_expect_eq(qc_view_read(o.view, &byte, 1, 0), -EIO);
    cr_expect_eq(qc_view_read(o.view, &byte, 1, DISK - 1), 1);
    cr_expect_eq(byte, 0);
    cr_expect_eq(qc_view_check(o.view), 0);
    cr_assert_eq(qc_file_write(s.made[0], &whole, sizeof(whole), 24), 0);
    cr_expect_eq(qc_view_check(o.view), -ESTALE, "the zeros are not known to be there any more");
    opened_clear(&o);
    remove_stack(&s);
}

Test(view, where_looking_fails_beneath_the_caller_is_told_nothing)
{
    Stack s = overlay_and_base();
    g_autofree char *base_path = path_of(&s, 0);
    Opened o = open_stack(&s, 1, O_RDWR);
    QcExtent e = {.kind = QC_EXTENT_BAD, .length = 77};
    cr_assert_eq(0, truncate(base_path, CLUSTER)); /* its tables are gone */
    cr_expect_eq(qc_view_map(o.view, 0, CLUSTER, &e), -EIO);
    cr_expect_eq(e.kind, QC_EXTENT_BAD, "not what the layer above had");
    cr_expect_eq(e.length, 77);
    opened_clear(&o);
    remove_stack(&s);
}

/* An overlay of an image that is an overlay of it. */
static QcFile *create_overlay(const char *path, const char *backing)
{
    QcFile *file;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    cr_assert_eq(0, qc_file_new_fd(fd, &file));
    QcCreateOptions options = {.virtual_size = DISK,
                               .cluster_bits = 12,
                               .backing_file = backing,
                               .backing_format = "qcow2"};
    cr_assert_eq(0, qc_create(file, &options, NULL));
    return file;
}

Test(view, a_loop_of_backing_files_ends)
{
    g_autofree char *dir = g_dir_make_tmp("view-XXXXXX", NULL);
    g_autofree char *a_path = g_build_filename(dir, "a", NULL);
    g_autofree char *b_path = g_build_filename(dir, "b", NULL);
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(0, qc_gate_new(dir, QC_BACKING_STORE, &gate, NULL));
    g_autoptr(QcFile) a = create_overlay(a_path, "b"), b = create_overlay(b_path, "a");
    Opened o = opened_new(a, gate);
    cr_expect_not_null(qc_chain_error(o.chain));
    cr_expect_leq(qc_chain_layers(o.chain), 3);
    uint8_t byte;
    cr_expect_eq(qc_view_read(o.view, &byte, 1, 0), -EIO);
    opened_clear(&o);
    g_unlink(a_path);
    g_unlink(b_path);
    g_rmdir(dir);
}

/* ---- tables that seem to be blank ---------------------------------------------------------- */

enum {
    SPAN = 512 * CLUSTER, /* of an L2 table with these clusters */
    BIG = 65536,          /* the largest of which a table is larger than a block of files */
    BIG_SPAN = BIG / 8 * BIG,
};

/* Where the L2 table lies that an entry of the active L1 table points at. */
static uint64_t l2_of(QcFile *file, unsigned slot)
{
    be64 at, entry;
    cr_assert_eq(0, qc_file_read(file, &at, sizeof(at), offsetof(QcDiskHeader, l1_table_offset)));
    cr_assert_eq(0, qc_file_read(file, &entry, sizeof(entry), be64_get(at) + slot * 8));
    return be64_get(entry) & QC_OFFSET_MASK;
}

static void punch(QcFile *file, uint64_t offset, uint64_t len)
{
    cr_assert_eq(0, fallocate(qc_file_fd(file), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              (off_t)offset, (off_t)len));
}

/* What is a hole in one file is a table in another, at the same place. */
Test(view, a_hole_of_one_layer_is_none_of_the_next)
{
    Stack s = new_directory();
    QcFile *base = make_layer(&s, 4ull * SPAN, 12), *top = make_layer(&s, 4ull * SPAN, 12);
    write_in(base, s.gate, SPAN + 5 * CLUSTER, 'b');
    write_in(top, s.gate, SPAN + 5 * CLUSTER, 't');
    cr_assert_eq(l2_of(base, 1), l2_of(top, 1));
    punch(top, l2_of(top, 1), CLUSTER); /* the top has nothing any more */
    Opened o = open_stack(&s, 1, O_RDWR);
    uint8_t byte;
    cr_expect_eq(1, qc_view_read(o.view, &byte, 1, SPAN + 5 * CLUSTER));
    cr_expect_eq(byte, 'b');
    cr_expect_eq(qc_view_seek(o.view, 0, false), SPAN + 5 * CLUSTER);
    cr_expect_eq(qc_view_seek(o.view, SPAN + 5 * CLUSTER, true), SPAN + 6 * CLUSTER);
    opened_clear(&o);
    remove_stack(&s);
}

/* A table of which only the end is not a hole. */
Test(view, a_table_that_begins_with_a_hole_is_not_blank)
{
    Stack s = new_directory();
    QcFile *file = make_layer(&s, 2ull * BIG_SPAN, 16);
    write_in(file, s.gate, BIG_SPAN - BIG, 'x');
    punch(file, l2_of(file, 0), BIG - 4096);
    Opened o = open_stack(&s, 0, O_RDWR);
    cr_expect_eq(qc_view_seek(o.view, 0, false), BIG_SPAN - BIG);
    opened_clear(&o);
    remove_stack(&s);
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

/* What lies beneath may be read for others, too. */
Test(view, of_a_pass_only_the_top_file_is_read_so)
{
    Stack s = overlay_and_base();
    CountFile *top = count_file_new(qc_file_ref(s.made[1]));
    uint8_t buf[CLUSTER];
    write_in(s.made[1], s.gate, CLUSTER, 't');
    Opened o = opened_new(count_file(top), s.gate);
    QcView *base = qc_chain_view(o.chain, 1);
    QcReading reading = {.pass = 5};
    cr_assert_eq(CLUSTER, qc_view_fetch(o.view, buf, CLUSTER, CLUSTER, &reading));
    cr_expect_eq(buf[0], 't');
    cr_expect_eq(top->past, 1);
    cr_assert_eq(CLUSTER, qc_view_fetch(o.view, buf, CLUSTER, 0, &reading));
    cr_expect_eq(buf[0], 'b');
    cr_assert_eq(CLUSTER, qc_view_fetch(base, buf, CLUSTER, 0, &reading));
    cr_expect_eq(buf[0], 'b');
    cr_expect_eq(top->past, 1);
    opened_clear(&o);
    qc_file_unref(count_file(top));
    remove_stack(&s);
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
