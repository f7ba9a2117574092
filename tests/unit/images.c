/* Images that stay open: only what is certainly still true of them is used again. */
#include "images.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>

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
