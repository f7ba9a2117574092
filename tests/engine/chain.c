/* Which file a chain takes for the layer beneath, and for what. */
#include "qcow.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DISK = 1 << 20,
};

static char *store;
static QcCache *cache;

static char *at(const char *name)
{
    return g_build_filename(store, name, NULL);
}

static void set_up(void)
{
    store = g_dir_make_tmp("chain-XXXXXX", NULL);
    cache = qc_cache_new(1 << 20);
    g_autofree char *x = at("x"), *y = at("y");
    cr_assert_eq(0, g_mkdir(x, 0755));
    cr_assert_eq(0, g_mkdir(y, 0755));
}

static void tear_down(void)
{
    const char *argv[] = {"rm", "-rf", store, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    qc_cache_unref(cache);
    g_free(store);
}

TestSuite(chain, .init = set_up, .fini = tear_down);

static QcGate *new_gate(QcBackingPolicy policy)
{
    QcGate *gate;
    cr_assert_eq(0, qc_gate_new(store, policy, &gate, NULL));
    return gate;
}

/* A file of DISK bytes that begins with a text. */
static void make_raw(const char *name, const char *text)
{
    g_autofree char *path = at(name), *bytes = g_malloc0(DISK);
    memcpy(bytes, text, strlen(text));
    cr_assert(g_file_set_contents(path, bytes, DISK, NULL));
}

/* Let the format of the backing file not be stated: the extension is one that nobody knows. */
static void forget_format(QcFile *file)
{
    static const uint8_t format[] = {0xe2, 0x79, 0x2a, 0xca}, unknown[] = {1, 2, 3, 4};
    uint8_t header[512];
    size_t i = 0;
    cr_assert_eq(0, qc_file_read(file, header, sizeof(header), 0));
    while (memcmp(header + i, format, sizeof(format)) != 0)
        cr_assert_lt(++i, sizeof(header) - sizeof(format));
    cr_assert_eq(0, qc_file_write(file, unknown, sizeof(unknown), i));
}

/* format: NULL: it is not stated. */
static void make_overlay(const char *name, const char *backing, const char *format)
{
    QcCreateOptions options = {
        .virtual_size = DISK, .backing_file = backing, .backing_format = format ? format : "raw"};
    g_autoptr(QcFile) file = NULL;
    g_autofree char *path = at(name);
    g_unlink(path);
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644), &file));
    cr_assert_eq(0, qc_create(file, &options, NULL));
    if (!format)
        forget_format(file);
}

static void settle(const char *name)
{
    g_autoptr(QcFile) file = NULL;
    g_autofree char *path = at(name);
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDONLY | O_CLOEXEC), &file));
    cr_assert_eq(0, qc_file_settle(file, NULL));
}

static QcImage *open_image(QcGate *gate, const char *name)
{
    g_autoptr(QcFile) file = NULL;
    QcImage *image;
    cr_assert_eq(0, qc_gate_open(gate, name, false, &file, NULL));
    cr_assert_eq(0, qc_image_open(file, name, QC_FORMAT_QCOW2, cache, &image, NULL));
    return image;
}

static QcChain *open_chain(QcGate *gate, const char *name)
{
    g_autoptr(QcImage) image = open_image(gate, name);
    QcChain *chain;
    cr_assert_eq(0, qc_chain_open(gate, image, cache, &chain));
    return chain;
}

/* The first byte of the disk, or a negative errno. */
static int first_byte(const QcChain *chain)
{
    uint8_t byte;
    ssize_t n = qc_view_read(qc_chain_view(chain, 0), &byte, 1, 0);
    return n < 0 ? (int)n : byte;
}

/* error: part of it; NULL: there is none. */
static void expect(const QcChain *chain, int byte, const char *error)
{
    const char *found = qc_chain_error(chain);
    cr_expect_eq(first_byte(chain), byte);
    if (error)
        cr_expect(found && strstr(found, error), "%s", found);
    else
        cr_expect_null(found, "%s", found);
}

Test(chain, formats_that_are_stated)
{
    static const struct {
        const char *format, *error;
    } cases[] = {
        {"raw", NULL},         {"file", NULL},
        {"host_device", NULL}, {"vmdk", "top: backing files of format vmdk are not supported"},
        {"qcow2", "base"}, /* which it is not */
    };
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_raw("base", "KDMV");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        make_overlay("top", "base", cases[i].format);
        g_autoptr(QcChain) chain = open_chain(gate, "top");
        expect(chain, cases[i].error ? -EIO : 'K', cases[i].error);
        cr_expect_eq(qc_chain_layers(chain), cases[i].error ? 1 : 2);
    }
}

/* What a guest could have written there is an image to nobody who does not ask for it. */
Test(chain, formats_that_are_not_stated)
{
    static const char refused[] = "its format is not stated";
    static const struct {
        const char *name;
        int by_store, by_any;
    } cases[] = {{"plain", 'p', 'p'}, {"image", -EIO, 'b'}, {"other", -EIO, -EIO}};
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE), any = new_gate(QC_BACKING_ANY);
    make_raw("base", "bytes");
    make_raw("plain", "plain");
    make_raw("other", "KDMV");
    make_overlay("image", "base", "raw");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        make_overlay("top", cases[i].name, NULL);
        g_autoptr(QcChain) by_store = open_chain(gate, "top"), by_any = open_chain(any, "top");
        expect(by_store, cases[i].by_store, cases[i].by_store < 0 ? refused : NULL);
        expect(by_any, cases[i].by_any, cases[i].by_any < 0 ? refused : NULL);
    }
}

/* An image opened with the layers of another chain, or kept on its files; and where it was opened
 * anew. */
static void expect_own_layers(QcGate *gate, const QcChain *other, const char *name, int byte)
{
    g_autoptr(QcImage) image = open_image(gate, name);
    g_autoptr(QcChain) like = NULL, again = NULL;
    cr_assert_eq(0, qc_chain_open_like(gate, image, cache, other, &like));
    cr_expect_eq(first_byte(like), byte, "like");
    cr_assert_eq(0, qc_chain_reopen(gate, image, cache, other, &again));
    cr_expect_eq(first_byte(again), byte, "again");
}

/* A layer is that of another chain only if the one above it lies there as well, and names it so. */
Test(chain, layers_are_taken_over_by_all_that_names_them)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_raw("x/base", "x");
    make_raw("y/base", "y");
    make_raw("x/other", "o");
    make_overlay("x/inner", "base", "raw");
    make_overlay("x/top", "base", "raw");
    make_overlay("y/top", "base", "raw");
    settle("x/base");
    g_autoptr(QcChain) chain = open_chain(gate, "x/top");
    cr_expect_eq(first_byte(chain), 'x');

    expect_own_layers(gate, chain, "x/top", 'x');
    expect_own_layers(gate, chain, "y/top", 'y');
    make_overlay("x/top", "other", "raw");
    expect_own_layers(gate, chain, "x/top", 'o');
    make_overlay("x/top", "base", "qcow2");
    expect_own_layers(gate, chain, "x/top", -EIO);
    make_overlay("x/top", "base", NULL);
    expect_own_layers(gate, chain, "x/top", 'x');

    make_overlay("x/top", "inner", "qcow2"); /* which is longer than the other */
    expect_own_layers(gate, chain, "x/top", 'x');
}

/* ... and one that was not there may be there now. */
Test(chain, a_layer_that_was_missing_is_looked_for_again)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_overlay("top", "middle", "qcow2");
    make_overlay("middle", "base", "raw");
    g_autoptr(QcChain) chain = open_chain(gate, "top");
    expect(chain, -EIO, "base");
    make_raw("base", "b");
    expect_own_layers(gate, chain, "top", 'b');
}

typedef enum Base {
    MISSING,
    BYTES,
    OTHER_BYTES,
    IMAGE,
    FIFO,
} Base;

static void make_base(Base base)
{
    g_autofree char *path = at("base");
    g_unlink(path);
    if (base == BYTES || base == OTHER_BYTES)
        make_raw("base", base == BYTES ? "b" : "other");
    if (base == IMAGE)
        make_overlay("base", "nothing", "raw");
    cr_assert(base != FIFO || mkfifo(path, 0644) == 0);
}

/* What is found wrong with a backing file is known until there is another file, or none. */
Test(chain, an_error_stands_as_long_as_its_file)
{
    static const struct {
        const char *format;
        Base then, now;
        bool stands;
    } cases[] = {
        {"raw", MISSING, MISSING, true}, {"raw", MISSING, BYTES, false},
        {"raw", MISSING, FIFO, false},   {"vmdk", BYTES, BYTES, true},
        {"vmdk", BYTES, MISSING, false}, {"vmdk", BYTES, OTHER_BYTES, false},
        {NULL, IMAGE, IMAGE, true},      {NULL, IMAGE, OTHER_BYTES, false},
    };
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        make_overlay("top", "base", cases[i].format);
        make_base(cases[i].then);
        g_autoptr(QcChain) chain = open_chain(gate, "top");
        if (cases[i].now != cases[i].then)
            make_base(cases[i].now);
        cr_assert_not_null(qc_chain_error(chain));
        cr_expect_eq(qc_chain_error_stands(chain, gate), cases[i].stands, "case %zu", i);
        cr_expect_not(qc_chain_error_stands(chain, NULL), "nobody can look");
    }
}

/* Let bytes of the header be others. */
static void patch(const char *name, uint64_t offset, const void *bytes, size_t len)
{
    g_autoptr(QcFile) file = NULL;
    g_autofree char *path = at(name);
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDWR | O_CLOEXEC), &file));
    cr_assert_eq(0, qc_file_write(file, bytes, len, offset));
}

/* One snapshot, whose table is said to be there. */
static void break_snapshots(const char *name, uint64_t table)
{
    static const uint8_t one[] = {0, 0, 0, 1};
    uint64_t at_table = GUINT64_TO_BE(table);
    patch(name, 60, one, sizeof(one));
    patch(name, 64, &at_table, sizeof(at_table));
}

/* Of several errors the first is told: it is that of the highest layer. */
Test(chain, the_first_error_is_told)
{
    static const char first[] = "the snapshot table lies past the end";
    enum { REFCOUNTS = 2 << 16 };
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_overlay("top", "middle", "qcow2");
    make_overlay("middle", "base", "qcow2");
    make_overlay("base", "missing", "raw");
    break_snapshots("middle", UINT64_C(1) << 40);
    g_autoptr(QcChain) missing = open_chain(gate, "top");
    expect(missing, -EIO, first);
    cr_expect_eq(qc_chain_layers(missing), 3);

    make_raw("missing", "m");
    break_snapshots("base", REFCOUNTS); /* which are no entry of a table */
    g_autoptr(QcChain) both = open_chain(gate, "top");
    expect(both, 'm', first);
}

/* What is wrong with an image itself has nothing to do with what it names. */
Test(chain, an_error_of_the_lowest_image_stands)
{
    static const uint8_t aes[] = {0, 0, 0, 1};
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_raw("base", "b");
    make_overlay("top", "base", "raw");
    patch("top", 32, aes, sizeof(aes));
    g_autoptr(QcChain) chain = open_chain(gate, "top");
    expect(chain, -EIO, "not supported");
    cr_expect(qc_chain_error_stands(chain, gate));
    cr_expect(qc_chain_error_stands(chain, NULL));
}

/* Whether the layer beneath is taken over from a chain like that. */
static bool is_taken_over(QcGate *gate)
{
    g_autoptr(QcChain) chain = open_chain(gate, "top"), like = NULL;
    cr_assert_eq(0, qc_chain_open_like(gate, qc_chain_image(chain, 0), cache, chain, &like));
    return qc_chain_image(like, 1) == qc_chain_image(chain, 1);
}

/* While a program may write to it, no layer is known to be what it was. */
Test(chain, a_layer_that_somebody_may_write_to_is_not_taken_over)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    g_autofree char *path = at("base");
    make_raw("base", "b");
    make_overlay("top", "base", "raw");
    settle("base");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_expect_not(is_taken_over(gate));
    close(fd);
    cr_expect(is_taken_over(gate));
}

/* A chain of n images above a raw file that is not there; its name is ret_missing (g_free). */
static QcChain *open_broken(QcGate *gate, unsigned n, char **ret_missing)
{
    g_autofree char *name = NULL;
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *backing = g_strdup_printf("%u-%u", n, i + 1);
        g_free(name);
        name = g_strdup_printf("%u-%u", n, i);
        make_overlay(name, backing, i + 1 < n ? "qcow2" : "raw");
        *ret_missing = i + 1 < n ? NULL : g_steal_pointer(&backing);
    }
    g_autofree char *top = g_strdup_printf("%u-0", n);
    QcChain *chain = open_chain(gate, top);
    QcExtent e;
    cr_assert_eq(qc_chain_layers(chain), n);
    cr_assert(qc_chain_error(chain));
    cr_assert_eq(0, qc_view_map(qc_chain_view(chain, 0), 0, 1, &e));
    cr_expect_eq(e.kind, QC_EXTENT_BAD);
    cr_expect_eq(e.error, -ENOENT);
    return chain;
}

/* Of a chain that ended there nothing is taken over: behind its layers its memory holds anything.
 */
Test(chain, a_layer_that_was_missing_is_found)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    mallopt(M_PERTURB, 0x55);
    for (unsigned n = 1; n < 6; n++) {
        g_autofree char *missing = NULL;
        g_autoptr(QcChain) broken = open_broken(gate, n, &missing), like = NULL, again = NULL;
        QcImage *top = qc_chain_image(broken, 0);
        make_raw(missing, "below");
        cr_assert_eq(0, qc_chain_open_like(gate, top, cache, broken, &like));
        cr_assert_eq(0, qc_chain_reopen(gate, top, cache, broken, &again));
        cr_expect_eq(qc_chain_layers(like), n + 1, "%s", qc_chain_error(like));
        cr_expect_eq(qc_chain_layers(again), n + 1, "%s", qc_chain_error(again));
        cr_expect_eq(first_byte(like), 'b');
        cr_expect_eq(first_byte(again), 'b');
    }
}

/* Another file by the name is for who opens the image, not for who has it open. */
Test(chain, who_opens_again_stays_on_the_files)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    g_autofree char *base = at("base"), *later = at("later");
    make_raw("base", "was");
    make_overlay("top", "base", "raw");
    g_autoptr(QcChain) chain = open_chain(gate, "top"), like = NULL, again = NULL;
    QcImage *top = qc_chain_image(chain, 0);
    make_raw("later", "is");
    cr_assert_eq(0, g_rename(later, base));
    cr_assert_eq(0, qc_chain_open_like(gate, top, cache, chain, &like));
    cr_assert_eq(0, qc_chain_reopen(gate, top, cache, chain, &again));
    expect(like, 'i', NULL);
    expect(again, 'w', NULL);
}

/* Each image is one layer, whatever names it. */
Test(chain, a_loop_ends_where_it_closes)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_overlay("self", "self", "qcow2");
    make_overlay("top", "middle", "qcow2");
    make_overlay("middle", "low", "qcow2");
    static const struct {
        const char *low;
        unsigned layers;
    } cases[] = {{"top", 3}, {"middle", 3}, {"low", 3}, {"self", 4}};
    g_autoptr(QcChain) alone = open_chain(gate, "self");
    cr_expect_eq(qc_chain_layers(alone), 1);
    expect(alone, -EIO, "is a loop through self");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *loop = g_strdup_printf("is a loop through %s", cases[i].low);
        make_overlay("low", cases[i].low, "qcow2");
        g_autoptr(QcChain) chain = open_chain(gate, "top");
        cr_expect_eq(qc_chain_layers(chain), cases[i].layers, "%s", cases[i].low);
        expect(chain, -EIO, loop);
    }
}

/* ---- while it is opened ------------------------------------------------------------------- */

/* A file of a chain to which something happens when the kernel has read from it. One at a time. */
static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    void (*deed)(uint8_t *read, uint64_t offset);
} watched;

static ssize_t read_and_be_watched(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = watched.usual->pread(file, buf, len, offset);
    if (n > 0 && watched.deed)
        watched.deed(buf, offset);
    return n;
}

static void watch(QcFile *file, void (*deed)(uint8_t *read, uint64_t offset))
{
    watched.usual = file->ops;
    watched.ops = *file->ops;
    watched.ops.pread = read_and_be_watched;
    watched.deed = deed;
    file->ops = &watched.ops;
}

/* A guest writes the header of an image into its raw disk, once. */
static void make_it_an_image(uint8_t *read, uint64_t offset)
{
    (void)read, (void)offset;
    watched.deed = NULL;
    patch("base", 0, "QFI\xfb", 4);
    settle("base");
}

/* It was taken for raw, but for which bytes? */
Test(chain, a_layer_that_changes_after_its_format_was_told)
{
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    make_raw("base", "b");
    make_overlay("top", "base", NULL);
    settle("top");
    g_autoptr(QcChain) chain = open_chain(gate, "top");
    QcImage *top = qc_chain_image(chain, 0);
    for (unsigned changed = 0; changed < 2; changed++) {
        g_autoptr(QcChain) again = NULL;
        patch("base", 0, "b", 1); /* so that it is not taken over */
        settle("base");
        watch(qc_image_file(qc_chain_image(chain, 1)), changed ? make_it_an_image : NULL);
        cr_assert_eq(0, qc_chain_reopen(gate, top, cache, chain, &again));
        expect(again, changed ? 'Q' : 'b', NULL);
        cr_expect_eq(qc_view_check(qc_chain_view(again, 0)), changed ? -ESTALE : 0);
        qc_image_file(qc_chain_image(chain, 1))->ops = watched.usual;
    }
}

/* What of the header tells where the snapshots are. */
static void move_snapshots(uint8_t *read, uint64_t offset)
{
    if (offset == 0)
        read[70] ^= 1;
}

/* Beside a writer who takes QEMU's locks the stat may tell already of what is written later. */
Test(chain, a_layer_with_another_header_is_another_one)
{
    enum { WRITES = 101 };
    g_autoptr(QcGate) gate = new_gate(QC_BACKING_STORE);
    g_autoptr(QcFile) writer = NULL;
    g_autofree char *path = at("top");
    make_raw("base", "b");
    make_overlay("top", "base", "raw");
    settle("top");
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDWR | O_CLOEXEC), &writer));
    cr_assert_eq(0, qc_file_lock(writer, WRITES, true));
    g_autoptr(QcChain) chain = open_chain(gate, "top");
    QcFile *file = qc_image_file(qc_chain_image(chain, 0));
    cr_assert_eq(qc_image_trust(qc_chain_image(chain, 0)), QC_TRUST_METADATA);
    cr_expect(qc_chain_layer_is_same(chain, gate, 0));
    watch(file, move_snapshots);
    cr_expect_not(qc_chain_layer_is_same(chain, gate, 0));
    file->ops = watched.usual;
}
