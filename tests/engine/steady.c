/*
 * Opening an image whose header changes while it is read: tried again, for a while. Somebody who
 * takes and deletes snapshots without a break must not make the image look broken. And whether what
 * was read may be kept.
 */
#include "countfile.h"
#include "craft.h"
#include "format.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void cut_off(void *data, uint8_t *buf, ssize_t n, uint64_t offset)
{
    MemFile *file = data;
    (void)buf, (void)n;
    if (offset == 0)
        g_byte_array_set_size(file->data, 300);
}

/* Where the rest of the first sector was zeros, that it is gone shows in the length alone. */
Test(steady, a_file_that_is_cut_off_meanwhile)
{
    MemFile *inner = script_image(&(Kind){"v3-64k", 3, 16, 16, false}, 1 << 20);
    CountFile *file = count_file_new(mem_file(inner));
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    file->on_read = cut_off;
    file->on_read_data = inner;
    cr_expect_eq(-EUCLEAN,
                 qc_image_open(count_file(file), "image", QC_FORMAT_QCOW2, cache, &image, NULL));
    qc_file_unref(count_file(file));
}

/* Of a disk without a byte there need not be more. */
Test(steady, a_file_that_is_a_header_alone)
{
    MemFile *file = script_image(&(Kind){"v3-64k", 3, 16, 16, false}, 1 << 20);
    mem_file_put_word(file, offsetof(QcDiskHeader, size), 0);
    memset(file->data->data + offsetof(QcDiskHeader, l1_size), 0, sizeof(be32));
    g_byte_array_set_size(file->data, 200);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect_eq(qc_view_size(o.view), 0);
    cr_expect(qc_image_is_current(o.image));
    qc_file_unref(mem_file(file));
}

/* ---- keeping ----------------------------------------------------------------------------- */

#define SECOND INT64_C(1000000000)

/* A change time that is no whole second, so many nanoseconds ago. */
static int64_t ago(int64_t ns)
{
    int64_t then = g_get_real_time() * 1000 - ns;
    return then % SECOND == 0 ? then - 1 : then;
}

/* Whether what is read may be kept of a file that was changed then. */
static bool may_be_kept(int64_t changed, int writer, int locked)
{
    MemFile *file = script_image(&script_kinds[0], 1 << 20);
    file->mtime = changed;
    file->writer = writer;
    file->locked = locked;
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    qc_file_unref(mem_file(file));
    return qc_image_trust(o.image) == QC_TRUST_ALL;
}

Test(steady, a_change_of_just_now_could_hide_another)
{
    cr_expect_not(may_be_kept(ago(-SECOND), 0, 0), "the clock has not come to that time");
    cr_expect(may_be_kept(ago(SECOND / 2), 0, 0));
}

/* ext4 with inodes of 128 bytes, and servers on such. */
Test(steady, of_a_whole_second_nobody_knows_when_it_was)
{
    int64_t now = g_get_real_time() * 1000;
    cr_expect_not(may_be_kept(now - now % SECOND, 0, 0));
    cr_expect(may_be_kept(now - now % SECOND - 3 * SECOND, 0, 0));
}

Test(steady, a_write_that_began_may_not_have_ended)
{
    cr_expect_not(may_be_kept(ago(60 * SECOND), 1, 0));
    cr_expect_not(may_be_kept(ago(60 * SECOND), 1, 1), "nor one of who takes QEMU's locks");
    cr_expect_not(may_be_kept(ago(SECOND / 2), -EOPNOTSUPP, 0), "nobody can be asked");
    cr_expect(may_be_kept(ago(60 * SECOND), -EOPNOTSUPP, 0));
}

static int64_t passed;
static const QcFileOps *usual;

static int stat_later(QcFile *file, QcFileStat *ret)
{
    int err = usual->stat(file, ret);
    ret->now += passed;
    return err;
}

/* The clock was set back after a write: when it comes to that time again, so may another write. */
Test(steady, of_a_time_to_come_only_what_is_until_then_is_known)
{
    MemFile *file = script_image(&script_kinds[0], 1 << 20);
    QcFileOps ops = *file->base.ops;
    usual = file->base.ops;
    ops.stat = stat_later;
    file->base.ops = &ops;
    file->mtime = (ago(-3600 * SECOND) / SECOND) * SECOND;
    {
        g_auto(Opened) o = opened_new(mem_file(file), NULL);
        cr_expect_eq(qc_image_trust(o.image), QC_TRUST_READING, "nothing is kept for long");
        cr_expect(qc_image_is_current(o.image));
        passed = 3590 * SECOND;
        cr_expect(qc_image_is_current(o.image));
        passed = 3599 * SECOND;
        cr_expect_not(qc_image_is_current(o.image), "about now there may be another write");
        passed = 7200 * SECOND;
        cr_expect_not(qc_image_is_current(o.image), "there may have been one");
    }
    qc_file_unref(mem_file(file));
}

/*
 * A header that is written after its ctime was set, by who takes QEMU's locks: at byte at, while
 * the stat stays what it was. Whether the image is still called current.
 */
static bool is_current_after(unsigned at)
{
    MemFile *file = script_image(&script_kinds[0], 1 << 20);
    file->mtime = ago(60 * SECOND);
    file->writer = file->locked = 1;
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    qc_file_unref(mem_file(file));
    cr_assert_eq(qc_image_trust(o.image), QC_TRUST_METADATA);
    cr_assert(qc_image_is_current(o.image));
    cr_assert_eq(0, qc_view_check(o.view));
    if (at)
        file->data->data[at] ^= 1;
    return qc_image_is_current(o.image);
}

Test(steady, a_header_that_is_written_late)
{
    cr_expect(is_current_after(0));
    cr_expect_not(is_current_after(30), "the size");
    cr_expect_not(is_current_after(70), "the snapshot table's place");
    cr_expect(is_current_after(400), "where nothing is");
}

/* An image with more of its metadata elsewhere, where it is overwritten. */
typedef enum Elsewhere {
    NOTHING,
    BITMAPS,
    KEY_SLOTS,
} Elsewhere;

static QcTrust trust_beside_a_writer(Elsewhere what)
{
    MemFile *file = script_image(&(Kind){"v3-64k", 3, 16, 16, false}, 1 << 20);
    static const uint8_t luks[24] = {0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16, [22] = 16};
    if (what == BITMAPS)
        craft_bitmap(file);
    if (what == KEY_SLOTS)
        memcpy(file->data->data + 112, luks, sizeof(luks));
    file->mtime = ago(60 * SECOND);
    file->writer = file->locked = 1;
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    qc_file_unref(mem_file(file));
    cr_expect_eq(qc_image_info(o.image)->n_bitmaps, what == BITMAPS);
    cr_expect_eq(qc_image_info(o.image)->luks_length > 0, what == KEY_SLOTS);
    return qc_image_trust(o.image);
}

Test(steady, a_header_that_does_not_tell_all)
{
    cr_expect_eq(trust_beside_a_writer(NOTHING), QC_TRUST_METADATA);
    cr_expect_eq(trust_beside_a_writer(BITMAPS), QC_TRUST_READING);
    cr_expect_eq(trust_beside_a_writer(KEY_SLOTS), QC_TRUST_READING);
}

/* The backing file's name lies behind extensions, past the first sector. */
Test(steady, a_name_that_is_written_late)
{
    MemFile *file = mem_file_new(NULL, 0);
    const QcCreateOptions options = {
        .virtual_size = 1 << 20, .backing_file = "base.qcow2", .backing_format = "qcow2"};
    cr_assert_eq(0, qc_create(mem_file(file), &options, NULL));
    uint64_t at = mem_file_word(file, 8), new_at = 3000;
    uint32_t n = strlen(options.backing_file);
    memcpy(file->data->data + new_at, file->data->data + at, n);
    mem_file_put_word(file, 8, new_at);
    file->mtime = ago(60 * SECOND);
    file->writer = file->locked = 1;
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_expect(qc_image_is_current(o.image));
    file->data->data[new_at] = 'B';
    cr_expect_not(qc_image_is_current(o.image));
    qc_file_unref(mem_file(file));
}

/* Waiting for it would be in vain. The calls are looks at its stat, with a pause between two. */
static void wait_for(int64_t unit, int64_t looks)
{
    MemFile *file = script_image(&script_kinds[0], 1 << 20);
    QcFileStat st;
    file->restless = unit;
    file->calls = 0;
    cr_assert_eq(0, qc_file_settle(mem_file(file), &st));
    cr_expect_leq(file->calls, looks, "%d looks", (int)file->calls);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    qc_file_unref(mem_file(file));
    cr_expect_eq(qc_view_check(o.view), -ESTALE, "what is read is not handed out");
}

Test(steady, a_file_that_is_written_to_all_the_time)
{
    wait_for(1001, 4);
    wait_for(SECOND, 2000 / 21 + 4); /* its file system keeps whole seconds */
}

/* On file systems that others change as well: /proc stands for them. */
Test(steady, the_kernel_is_not_asked_where_it_does_not_know)
{
    g_autoptr(QcFile) file = NULL;
    cr_assert_eq(0, qc_file_new_fd(open("/proc/self/status", O_RDONLY | O_CLOEXEC), &file));
    cr_expect_lt(qc_file_has_writer(file), 0);
}

Test(steady, the_kernel_tells_who_may_write)
{
    g_autofree char *path = NULL;
    QcFile *file;
    int fd = g_file_open_tmp("snaptree-XXXXXX", &path, NULL);
    cr_assert_geq(fd, 0);
    cr_assert_eq(0, ftruncate(fd, 4096));
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDONLY | O_CLOEXEC), &file));
    cr_expect_eq(qc_file_has_writer(file), 1, "a descriptor");
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    close(fd);
    cr_expect_eq(qc_file_has_writer(file), 1, "a mapping");
    munmap(map, 4096);
    cr_expect_eq(qc_file_has_writer(file), 0);
    cr_expect_eq(qc_file_has_writer(file), 0, "and leaves nothing behind");
    cr_expect_geq(fd = open(path, O_RDWR | O_NONBLOCK), 0);
    close(fd);
    qc_file_unref(file);
    g_unlink(path);
}

typedef struct Opener {
    const char *path;
    gint stop; /* atomic */
} Opener;

static gpointer open_and_close(gpointer data)
{
    Opener *opener = data;
    while (!g_atomic_int_get(&opener->stop))
        close(open(opener->path, O_RDWR));
    return NULL;
}

/* The kernel signals the process that is asked to give its lease back: by SIGIO, which ends it. */
Test(steady, asking_survives_who_opens_the_file_meanwhile)
{
    Opener opener = {0};
    g_autofree char *path = NULL;
    QcFile *file;
    int fd = g_file_open_tmp("snaptree-XXXXXX", &path, NULL);
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDONLY | O_CLOEXEC), &file));
    close(fd);
    opener.path = path;
    GThread *thread = g_thread_new("opener", open_and_close, &opener);
    gint64 end = g_get_monotonic_time() + G_TIME_SPAN_SECOND;
    unsigned answers[2] = {0};
    while (g_get_monotonic_time() < end || answers[0] == 0) {
        int writer = qc_file_has_writer(file);
        cr_assert(writer == 0 || writer == 1, "%d", writer);
        answers[writer]++;
    }
    g_atomic_int_set(&opener.stop, 1);
    g_thread_join(thread);
    qc_file_unref(file);
    g_unlink(path);
}
