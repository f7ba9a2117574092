/* Images that stay open: only what is certainly still true of them is used again, and by whom. */
#include "images.h"

#include "named.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

enum {
    SIZE = 1 << 20,
};

static char *dir;
static QcGate *gate;
static QcCache *cache;
static Images *images;
static bool keeps; /* on this file system */

static void set_up(void)
{
    QcCreateOptions options = {.virtual_size = SIZE};
    g_autoptr(QcFile) file = NULL;
    g_autofree char *path = NULL;
    int fd;

    dir = g_dir_make_tmp("images-XXXXXX", NULL);
    path = g_build_filename(dir, "a", NULL);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    cr_assert_eq(0, qc_file_new_fd(fd, &file));
    cr_assert_eq(0, qc_create(file, &options, NULL));
    qc_file_settle(file, NULL);
    keeps = qc_file_times_mapped_writes(file);
    cr_assert_eq(0, qc_gate_new(dir, QC_BACKING_STORE, &gate, NULL));
    cache = qc_cache_new(1 << 20);
    images = images_new(gate, cache);
}

static void tear_down(void)
{
    g_autofree char *path = g_build_filename(dir, "a", NULL);

    images_free(images);
    qc_cache_unref(cache);
    qc_gate_unref(gate);
    g_unlink(path);
    g_rmdir(dir);
    g_free(dir);
}

TestSuite(images, .init = set_up, .fini = tear_down);

Test(images, one_that_is_the_same_is_used_again)
{
    g_autoptr(Image) first = NULL, second = NULL;

    cr_assert_eq(0, images_get(images, "a", IMAGE_ALL_LAYERS, &first));
    cr_assert_eq(0, images_get(images, "a", IMAGE_ALL_LAYERS, &second));
    cr_expect_eq(first == second, keeps);
}

/* The file was changed after its stat was taken and before it was opened. */
Test(images, a_stat_of_before_is_not_trusted)
{
    g_auto(StoreItem) item = {0};
    g_autoptr(Image) right = NULL, wrong = NULL;
    g_autofree char *known = NULL, *unknown = NULL;

    cr_assert_eq(0, store_look(gate, "a", &item));
    cr_assert_eq(0, images_open(images, "a", &item, &right));
    known = image_identity(right, gate, 0);
    cr_expect_eq(known != NULL, keeps);
    item.stat.mtime -= 1000000000;
    cr_assert_eq(0, images_open(images, "a", &item, &wrong));
    unknown = image_identity(wrong, gate, 0);
    cr_expect_null(unknown);
}

/* It would stay in memory, and be there once more for the next who asks. */
Test(images, one_that_is_in_use_is_not_let_go)
{
    g_autoptr(Image) held = NULL, later = NULL;

    cr_assert_eq(0, images_get(images, "a", IMAGE_ALL_LAYERS, &held));
    g_usleep(6 * G_USEC_PER_SEC); /* those that nobody uses go after five */
    cr_assert_eq(0, images_get(images, "a", IMAGE_ALL_LAYERS, &later));
    cr_expect_eq(held == later, keeps);
}

/* An image over a raw file, which need not be there. */
static void make_overlay(const char *name, const char *backing)
{
    QcCreateOptions options = {
        .virtual_size = SIZE, .backing_file = backing, .backing_format = "raw"};
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(QcFile) file = NULL;

    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    cr_assert_eq(0, qc_file_new_fd(fd, &file));
    cr_assert_eq(0, qc_create(file, &options, NULL));
    cr_assert_eq(0, qc_file_settle(file, NULL));
}

/* The node of layers/0 is that of the name, whichever raw file lies there; of the others, no. */
Test(images, which_layers_are_known_by_their_file)
{
    g_autofree char *raw = g_build_filename(dir, "r", NULL);
    g_autofree char *top = g_build_filename(dir, "t", NULL);
    g_autoptr(Image) alone = NULL, over = NULL;
    g_auto(StoreItem) item = {0};
    StoreItem raw_item = {.kind = STORE_IMAGE, .format = QC_FORMAT_RAW, .format_name = "raw"};

    cr_assert(g_file_set_contents(raw, "0123456789", 10, NULL));
    make_overlay("t", "r");
    cr_assert_eq(0, store_look(gate, "t", &item));
    cr_assert_eq(0, images_open(images, "t", &item, &over));
    raw_item.stat = image_layer_info(over, 1)->stat;
    raw_item.file = qc_image_file(qc_chain_image(image_chain(over), 1));
    cr_assert_eq(0, images_open(images, "r", &raw_item, &alone));
    cr_expect_eq(image_layer_file(alone, 0).ino, 0);
    cr_expect_eq(image_layer_file(over, 0).ino, 0);
    cr_expect_eq(image_layer_file(over, 1).ino, raw_item.stat.ino);
    cr_assert(g_unlink(raw) == 0 && g_unlink(top) == 0);
}

/* ---- identity ---------------------------------------------------------------------------- */

/* Bytes for the raw file r, after which nobody writes to it. */
static void fill_raw(const char *bytes)
{
    g_autofree char *path = g_build_filename(dir, "r", NULL);
    g_autoptr(QcFile) file = NULL;

    cr_assert(g_file_set_contents(path, bytes, -1, NULL));
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDONLY | O_CLOEXEC), &file));
    cr_assert_eq(0, qc_file_settle(file, NULL));
}

static void remove_files(void)
{
    static const char *const names[] = {"r", "t", "u"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);

        g_unlink(path);
    }
}

static void expect_identity(const Image *image, unsigned layer, bool known)
{
    g_autofree char *identity = image_identity(image, gate, layer);

    cr_expect_eq(identity != NULL, known && keeps, "layer %u", layer);
}

/* What is missing beneath is part of what it is. */
Test(images, what_lacks_a_layer_is_another_one_once_that_is_there)
{
    g_autoptr(Image) image = NULL;

    make_overlay("t", "r");
    cr_assert_eq(0, images_get(images, "t", IMAGE_ALL_LAYERS, &image));
    cr_assert_not_null(image_error(image));
    expect_identity(image, 0, true);
    fill_raw("there");
    expect_identity(image, 0, false);
    remove_files();
}

Test(images, what_rests_on_a_file_is_another_one_when_that_is)
{
    g_autoptr(Image) image = NULL, written = NULL;
    g_autofree char *path = g_build_filename(dir, "r", NULL);

    make_overlay("t", "r");
    fill_raw("was");
    cr_assert_eq(0, images_get(images, "t", IMAGE_ALL_LAYERS, &image));
    expect_identity(image, 0, true);
    expect_identity(image, 1, true);
    fill_raw("is");
    expect_identity(image, 0, false);
    expect_identity(image, 1, false);

    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(0, images_get(images, "t", IMAGE_ALL_LAYERS, &written));
    expect_identity(written, 1, false); /* it might change, and that not show */
    close(fd);
    remove_files();
}

/* A layer is the same in whatever lies on top of it. */
Test(images, a_layer_has_an_identity_of_its_own)
{
    g_autoptr(Image) t = NULL, u = NULL;

    make_overlay("t", "r");
    make_overlay("u", "r");
    fill_raw("r");
    cr_assert_eq(0, images_get(images, "t", IMAGE_ALL_LAYERS, &t));
    cr_assert_eq(0, images_get(images, "u", IMAGE_ALL_LAYERS, &u));
    if (keeps) {
        g_autofree char *t0 = image_identity(t, gate, 0), *t1 = image_identity(t, gate, 1);
        g_autofree char *u0 = image_identity(u, gate, 0), *u1 = image_identity(u, gate, 1);

        cr_expect_str_eq(t1, u1);
        cr_expect_str_neq(t0, u0);
        cr_expect_str_neq(t0, t1);
    }
    remove_files();
}

/* ---- whom they are for -------------------------------------------------------------------- */

/* A link to the image, in a directory of its own, and the image in another one. */
typedef struct Linked {
    char *way, *sub, *link, *file;
} Linked;

static Linked make_linked(void)
{
    g_autofree char *plain = g_build_filename(dir, "a", NULL);
    Linked l = {
        .way = g_build_filename(dir, "way", NULL),
        .sub = g_build_filename(dir, "sub", NULL),
        .link = g_build_filename(dir, "way", "link", NULL),
        .file = g_build_filename(dir, "sub", "a", NULL),
    };

    cr_assert(g_chmod(dir, 0755) == 0 && g_mkdir(l.way, 0755) == 0 && g_mkdir(l.sub, 0755) == 0);
    cr_assert(g_rename(plain, l.file) == 0 && symlink("../sub/a", l.link) == 0);
    cr_assert_eq(0, g_chmod(l.file, 0644));
    return l;
}

static void remove_linked(Linked *l)
{
    cr_assert(g_unlink(l->link) == 0 && g_unlink(l->file) == 0);
    cr_assert(g_rmdir(l->way) == 0 && g_rmdir(l->sub) == 0);
    g_free(l->way);
    g_free(l->sub);
    g_free(l->link);
    g_free(l->file);
}

/* Both ways to it have to be open, by now: by the name, and to where the file lies. */
Test(images, one_that_is_open_is_not_for_all)
{
    Linked l = make_linked();
    const char *const shut[] = {l.way, l.sub};
    g_autoptr(Creds) others = creds_new(getuid() + 1, getgid() + 1, NULL, 0);
    g_autoptr(Image) image = NULL;

    cr_assert_eq(0, images_get(images, "way/link", IMAGE_ALL_LAYERS, &image));
    cr_expect_eq(image_check_access(image, gate, others), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(shut); i++) {
        cr_assert_eq(0, g_chmod(shut[i], 0700));
        cr_expect_eq(image_check_access(image, gate, others), -EACCES, "%s", shut[i]);
        cr_assert_eq(0, g_chmod(shut[i], 0755));
    }
    remove_linked(&l);
}

/* Where a link leads to has another mode once the directories above are shut. */
Test(images, one_that_is_opened_anew_is_for_those_who_may_now)
{
    Linked l = make_linked();
    g_autoptr(Image) before = NULL, after = NULL;

    cr_assert_eq(0, images_get(images, "way/link", IMAGE_ALL_LAYERS, &before));
    cr_expect_eq(image_stat(before)->mode & 0777, 0644);
    cr_assert_eq(0, g_chmod(l.sub, 0700));
    cr_assert_eq(0, images_reopen(images, before, &after));
    cr_expect_eq(image_stat(after)->mode & 0777, 0600);
    remove_linked(&l);
}

/* A list that the file has got meanwhile, too. */
Test(images, one_that_is_opened_anew_has_the_list_that_is_there)
{
    g_autofree char *path = g_build_filename(dir, "a", NULL);
    g_autoptr(Image) before = NULL, after = NULL;

    cr_assert_eq(0, images_get(images, "a", IMAGE_ALL_LAYERS, &before));
    if (!name_users(path, 1, 0))
        cr_skip_test("no lists on this file system");
    cr_assert_eq(0, images_reopen(images, before, &after));
    cr_expect_eq(image_stat(after)->mode & 0777, 0700, "%o", image_stat(after)->mode);
}
