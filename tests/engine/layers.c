/* Chains: a place that was looked up is remembered, and a change of any layer is noticed. */
#include "area.h"
#include "stack.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

enum {
    LAYERS = 70, /* more than one word of bits */
    CLUSTER = 4096,
    CLUSTERS = 300,
    DISK = CLUSTERS * CLUSTER,
};

static void write_layer(const Stack *s, unsigned layer, unsigned cluster, uint8_t value)
{
    uint8_t bytes[CLUSTER];
    g_auto(Opened) o = open_stack(s, layer, O_RDWR);
    uint64_t offset = (uint64_t)cluster * CLUSTER;

    memset(bytes, value, sizeof(bytes));
    cr_assert_eq(0, qc_image_write(o.image, o.chain, bytes, sizeof(bytes), offset, NULL, NULL));
}

static void settle(const Stack *s, unsigned layer)
{
    g_autoptr(QcFile) file = file_of(s, layer, O_RDONLY);
    cr_assert_eq(0, qc_file_settle(file, NULL));
}

/* A stack of LAYERS; cluster 4 n is of layer n. */
static Stack new_stack(void)
{
    Stack s = new_directory();

    for (unsigned i = 0; i < LAYERS; i++)
        make_layer(&s, DISK, i % 2 ? 12 : 9);
    for (unsigned i = 0; i < LAYERS; i++)
        write_layer(&s, i, 4 * i, (uint8_t)(i + 1));
    close_made(&s);
    for (unsigned i = 0; i < LAYERS; i++)
        settle(&s, i);
    return s;
}

static Opened open_top(const Stack *s)
{
    return open_stack(s, LAYERS - 1, O_RDONLY);
}

static uint8_t expected(uint64_t at)
{
    uint64_t cluster = at / CLUSTER;

    return cluster % 4 == 0 && cluster / 4 < LAYERS ? (uint8_t)(cluster / 4 + 1) : 0;
}

static void expect_bytes(QcView *view, uint64_t offset, size_t len)
{
    g_autofree uint8_t *buf = g_malloc(len);

    memset(buf, 0xee, len);
    cr_assert_eq(qc_view_read(view, buf, len, offset), (ssize_t)len);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(buf[i], expected(offset + i), "at %" G_GUINT64_FORMAT, offset + i);
}

Test(layers, every_place_comes_from_its_layer)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);

    for (unsigned round = 0; round < 2; round++) { /* the second one remembers */
        expect_bytes(top.view, 0, DISK);
        for (uint64_t at = 0; at + 9000 < DISK; at += 7919)
            expect_bytes(top.view, at, 9000);
    }
    remove_stack(&s);
}

static bool has_layer(const QcReading *reading, unsigned layer)
{
    return reading->layers[layer / 64] >> layer % 64 & 1;
}

Test(layers, a_reading_says_where_its_bytes_came_from)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    QcReading reading = {.once = false};
    g_autofree uint8_t *buf = g_malloc(8 * CLUSTER);

    for (unsigned layer = 0; layer + 1 < LAYERS; layer++) {
        uint64_t offset = 4ull * layer * CLUSTER;
        unsigned below = LAYERS - 1 - layer;

        cr_assert_eq(qc_view_fetch(top.view, buf, 5 * CLUSTER, offset, &reading), 5 * CLUSTER);
        for (unsigned i = 0; i < LAYERS; i++)
            cr_assert_eq(has_layer(&reading, i), i == below || i + 1 == below);
        cr_assert_not(reading.zeros);

        memset(buf, 0xee, CLUSTER);
        cr_assert_eq(qc_view_fetch(top.view, buf, CLUSTER, offset + CLUSTER, &reading), CLUSTER);
        cr_assert(reading.zeros);
        cr_assert_eq(buf[0], 0xee, "zeros are not written");
    }
    remove_stack(&s);
}

/* The tables of the lowest are gone: where it is asked, no stretch of the chain is known as a
 * whole.
 */
Test(layers, a_reading_says_so_where_no_area_is_kept)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    g_autofree char *path = path_of(&s, 0);
    QcReading reading = {.once = false};
    uint8_t buf[CLUSTER];

    cr_assert_eq(0, truncate(path, 512));
    cr_assert_eq(-EIO, qc_view_fetch(top.view, buf, CLUSTER, 0, &reading));
    for (unsigned layer = 1; layer < LAYERS; layer++) {
        cr_assert_eq(CLUSTER,
                     qc_view_fetch(top.view, buf, CLUSTER, 4ull * layer * CLUSTER, &reading));
        cr_assert_eq(buf[0], layer + 1);
        for (unsigned i = 0; i < LAYERS; i++)
            cr_assert_eq(has_layer(&reading, i), i == LAYERS - 1 - layer);
    }
    remove_stack(&s);
}

/* What came from there is an error; there is no file of it that could have changed. */
Test(layers, beneath_a_layer_that_is_missing_nothing_is_checked)
{
    Stack s = new_stack();
    g_autofree char *path = path_of(&s, 0);
    QcReading reading = {.once = false};
    uint8_t byte;

    mallopt(M_PERTURB, 0x55); /* behind the list of layers is anything */
    cr_assert_eq(0, g_unlink(path));
    g_autoptr(QcFile) file = file_of(&s, LAYERS - 1, O_RDONLY);
    g_auto(Opened) top = opened_new(file, s.gate);
    cr_assert_eq(LAYERS - 1, qc_chain_layers(top.chain));
    cr_assert_eq(0, qc_view_check(top.view));
    cr_assert_eq(-EIO, qc_view_fetch(top.view, &byte, 1, 0, &reading));
    cr_assert(has_layer(&reading, LAYERS - 1));
    cr_expect_eq(0, qc_view_check_reading(top.view, &reading));
    remove_stack(&s);
}

/* Zeros that are there because a layer ends, and not because none has anything. */
Test(layers, zeros_come_from_the_layer_that_ends)
{
    Stack s = new_directory();
    QcReading reading = {.once = false};
    uint8_t byte;

    for (unsigned i = 0; i < 3; i++)
        make_layer(&s, i == 1 ? 4 * CLUSTER : 8 * CLUSTER, 12);
    write_layer(&s, 0, 5, 'b');
    close_made(&s);
    g_auto(Opened) top = open_stack(&s, 2, O_RDONLY);
    cr_assert_eq(1, qc_view_fetch(top.view, &byte, 1, 5 * CLUSTER, &reading));
    cr_expect(reading.zeros);
    cr_expect(has_layer(&reading, 1), "what it is depends on the size of that layer");
    cr_expect_not(has_layer(&reading, 2));
    remove_stack(&s);
}

/* A disk that ends within a cluster: to its end, the layers beneath have what it has not. */
Test(layers, the_last_part_of_a_disk_comes_from_beneath)
{
    enum { PART = 512 };
    Stack s = new_directory();
    uint8_t buf[PART], expected[PART];

    make_layer(&s, 2 * CLUSTER, 12);
    make_layer(&s, CLUSTER + PART, 12);
    write_layer(&s, 0, 1, 'b');
    close_made(&s);
    settle(&s, 0);
    settle(&s, 1);
    g_auto(Opened) top = open_stack(&s, 1, O_RDONLY);
    memset(expected, 'b', PART);
    cr_assert_eq(PART, qc_view_read(top.view, buf, PART, CLUSTER));
    cr_expect_eq(memcmp(buf, expected, PART), 0);
    remove_stack(&s);
}

/* Read a cluster of a layer, change a layer, and ask whether the bytes may be handed out. */
static int check_after_change(unsigned read, unsigned changed, unsigned pause_us)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    QcReading reading = {.once = false};
    uint8_t buf[CLUSTER];

    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(qc_view_fetch(top.view, buf, CLUSTER, 4ull * read * CLUSTER, &reading),
                     CLUSTER);
        cr_assert_eq(0, qc_view_check_reading(top.view, &reading));
    }
    write_layer(&s, changed, 1, 0xcc);
    g_usleep(pause_us);
    int err = qc_view_check_reading(top.view, &reading);
    remove_stack(&s);
    return err;
}

/*
 * Read what layers 3 and 4 have, look at all layers, change one, and ask: while not all are looked
 * at again. 1: it took so long that all were.
 */
static int check_at_once(unsigned changed)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    QcReading reading = {.once = false};
    uint8_t buf[5 * CLUSTER];
    g_autofree char *path = path_of(&s, changed);

    cr_assert_eq(qc_view_fetch(top.view, buf, sizeof(buf), 4 * 3 * CLUSTER, &reading), sizeof(buf));
    gint64 start = g_get_monotonic_time();
    cr_assert_eq(0, qc_view_check(top.view));
    cr_assert_eq(0, utimensat(AT_FDCWD, path, NULL, 0));
    int err = qc_view_check_reading(top.view, &reading);
    bool late = g_get_monotonic_time() - start >= QC_RECHECK_US;
    remove_stack(&s);
    return late ? 1 : err;
}

static int check_in_time(unsigned changed)
{
    int err = 1;

    for (unsigned tries = 0; tries < 50 && err == 1; tries++)
        err = check_at_once(changed);
    return err;
}

Test(layers, a_change_is_noticed)
{
    cr_expect_eq(check_in_time(3), -ESTALE, "where the bytes came from");
    cr_expect_eq(check_in_time(4), -ESTALE, "where the others came from");
    cr_expect_eq(check_in_time(LAYERS - 1), -ESTALE, "the top");
    cr_expect_eq(check_in_time(30), 0, "in between, that is not looked at so soon");
    cr_expect_eq(check_after_change(3, 30, 2 * QC_RECHECK_US), -ESTALE, "in between, later");
}

/*
 * The same of a chain with so many layers: what the lowest has is read, and the one above it, which
 * has nothing there, is changed.
 */
static int check_short_at_once(unsigned layers)
{
    Stack s = new_stack();
    g_auto(Opened) few = open_stack(&s, layers - 1, O_RDONLY);
    QcReading reading = {.once = false};
    uint8_t buf[CLUSTER];
    g_autofree char *path = path_of(&s, 1);

    cr_assert_eq(qc_view_fetch(few.view, buf, CLUSTER, 0, &reading), CLUSTER);
    gint64 start = g_get_monotonic_time();
    cr_assert_eq(0, qc_view_check(few.view));
    cr_assert_eq(0, utimensat(AT_FDCWD, path, NULL, 0));
    int err = qc_view_check_reading(few.view, &reading);
    bool late = g_get_monotonic_time() - start >= QC_RECHECK_US;
    remove_stack(&s);
    return late ? 1 : err;
}

static int check_short_in_time(unsigned layers)
{
    int err = 1;

    for (unsigned tries = 0; tries < 50 && err == 1; tries++)
        err = check_short_at_once(layers);
    return err;
}

Test(layers, of_few_none_is_taken_on_trust)
{
    cr_expect_eq(check_short_in_time(QC_FEW_LAYERS), -ESTALE);
    cr_expect_eq(check_short_in_time(QC_FEW_LAYERS + 1), 0, "the measure of time is right");
}

static void *read_prepared(void *data)
{
    QcView *view = data;

    for (uint64_t at = 0; at < DISK; at += 5 * CLUSTER) {
        qc_view_prepare(view, at);
        expect_bytes(view, at, 5 * CLUSTER);
    }
    qc_view_prepare(view, DISK - 1);
    qc_view_prepare(view, DISK);
    return NULL;
}

/* Who looks up early, for several readers at once, neither gives wrong bytes nor hides a change. */
Test(layers, what_is_prepared_is_right)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    QcReading reading = {.once = false};
    GThread *threads[4];
    uint8_t buf[CLUSTER];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reader", read_prepared, top.view);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    cr_assert_eq(qc_view_fetch(top.view, buf, CLUSTER, 0, &reading), CLUSTER);
    cr_assert_eq(0, qc_view_check_reading(top.view, &reading));

    write_layer(&s, 30, 1, 0xcc);
    g_usleep(QC_RECHECK_US);
    qc_view_prepare(top.view, 0);
    cr_expect_eq(-ESTALE, qc_view_check_reading(top.view, &reading));
    remove_stack(&s);
}

/* What was remembered before a layer changed is not for the view that is opened then. */
Test(layers, what_is_remembered_is_of_one_state)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    uint8_t byte;

    expect_bytes(top.view, 0, DISK);
    write_layer(&s, 30, 1, 0xcc);
    settle(&s, 30);
    cr_assert_eq(-ESTALE, qc_view_check(top.view));

    /* Opened again with the same cache. */
    g_autoptr(QcFile) file = file_of(&s, LAYERS - 1, O_RDONLY);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    cr_assert_eq(0, qc_image_open(file, "image", QC_FORMAT_QCOW2, top.cache, &image, NULL));
    cr_assert_eq(0, qc_chain_open(s.gate, image, top.cache, &chain));
    cr_assert_eq(1, qc_view_read(qc_chain_view(chain, 0), &byte, 1, CLUSTER));
    cr_expect_eq(byte, 0xcc);
    remove_stack(&s);
}

/* Opened once more, a chain takes over the layers that are what they were, and no others. */
Test(layers, what_is_the_same_is_taken_over)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);

    write_layer(&s, 30, 1, 0xcc);
    g_autofree char *path = path_of(&s, 20), *other = path_of(&s, LAYERS);
    g_autofree char *bytes = NULL;
    gsize len;
    cr_assert(g_file_get_contents(path, &bytes, &len, NULL));
    cr_assert(g_file_set_contents(other, bytes, (gssize)len, NULL));
    cr_assert_eq(0, g_rename(other, path)); /* layer 20: another file, with the same in it */

    g_autoptr(QcChain) again = NULL;
    uint8_t byte;
    cr_assert_eq(0, qc_chain_open_like(s.gate, top.image, top.cache, top.chain, &again));
    cr_assert_eq(LAYERS, qc_chain_layers(again));
    for (unsigned i = 0; i < LAYERS; i++) {
        bool same =
            qc_chain_image(again, LAYERS - 1 - i) == qc_chain_image(top.chain, LAYERS - 1 - i);
        cr_expect_eq(same, i != 30 && i != 20, "layer %u", i);
    }
    cr_assert_eq(1, qc_view_read(qc_chain_view(again, 0), &byte, 1, CLUSTER));
    cr_expect_eq(byte, 0xcc);
    remove_stack(&s);
}

/* ... also of a layer that was looked at for the first time only after it had changed. */
Test(layers, a_change_is_noticed_where_nothing_is_remembered)
{
    Stack s = new_stack();
    g_auto(Opened) top = open_top(&s);
    QcReading reading = {.once = false};
    uint8_t byte;

    g_autofree char *path = path_of(&s, 30);
    cr_assert_eq(1, qc_view_fetch(top.view, &byte, 1, 0, &reading));
    cr_assert_eq(0, qc_view_check(top.view));
    cr_assert_eq(0, utimensat(AT_FDCWD, path, NULL, 0)); /* at once: nothing is due for a check */
    cr_assert_eq(1, qc_view_fetch(top.view, &byte, 1, DISK - 1, &reading));
    cr_expect_eq(-ESTALE, qc_view_check_reading(top.view, &reading));
    remove_stack(&s);
}

/* ---- the longest chain ------------------------------------------------------------------- */

/* As many layers as there may be, the last of which wants one more. */
Test(layers, a_chain_that_is_too_long_is_read_and_checked)
{
    Stack s = new_directory();
    QcReading reading = {.once = false};
    uint8_t byte;

    for (unsigned i = 0; i < STACK_MOST; i++)
        make_layer(&s, 65536, 9);
    close_made(&s);
    settle(&s, STACK_MOST - 1);

    g_auto(Opened) top = open_stack(&s, STACK_MOST - 1, O_RDONLY);
    cr_expect_eq(qc_chain_layers(top.chain), QC_MAX_LAYERS);
    cr_expect(qc_chain_error_stands(top.chain, s.gate), "whatever the next one would be");
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(-EIO, qc_view_fetch(top.view, &byte, 1, 0, &reading));
        cr_expect_eq(0, qc_view_check_reading(top.view, &reading));
    }
    remove_stack(&s);
}

/* ---- areas ------------------------------------------------------------------------------- */

/* However fine the grain of a chain is: a compressed cluster is decoded as a whole. */
Test(layers, a_compressed_cluster_is_one_extent_of_an_area)
{
    g_auto(QcAreaBuilder) builder = {0};
    const QcCachedKey key = {.owner = 1, .offset = 0};
    QcExtent cluster = {.kind = QC_EXTENT_COMPRESSED, .length = 65536, .host_offset = 7};
    QcExtent e;

    cr_assert_eq(0, qc_area_begin(&builder, 0, 131072, 9));
    qc_area_offer(&builder, 0, &cluster);
    cluster.host_offset = 8;
    qc_area_offer(&builder, 65536, &cluster);
    QcCached *area = qc_area_end(&builder, &key);
    qc_area_find(area, 0, 131072, &e);
    cr_expect_eq(e.length, 65536);
    qc_area_find(area, 66536, 65536, &e);
    cr_expect_eq(e.length, 64536);
    cr_expect_eq(e.skip, 1000);
    cr_expect_eq(e.host_offset, 8);
    qc_cached_unref(area);
}
