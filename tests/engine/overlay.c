/* An image on top of another one: which bytes are whose, and what is missing with a layer. And what
 * is a hole in the file of one. */
#include "countfile.h"
#include "format.h"
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

Test(overlay, a_missing_layer_takes_only_its_own_bytes_with_it)
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

Test(overlay, a_layer_with_a_broken_snapshot_table_keeps_its_bytes)
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
Test(overlay, a_layer_that_is_not_supported_may_change_its_size)
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

Test(overlay, where_looking_fails_beneath_the_caller_is_told_nothing)
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

Test(overlay, a_loop_of_backing_files_ends)
{
    g_autofree char *dir = g_dir_make_tmp("overlay-XXXXXX", NULL);
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

/* What lies beneath may be read for others, too. */
Test(overlay, of_a_pass_only_the_top_file_is_read_so)
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
Test(overlay, a_hole_of_one_layer_is_none_of_the_next)
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
Test(overlay, a_table_that_begins_with_a_hole_is_not_blank)
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
