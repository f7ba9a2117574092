/*
 * Chains of layers of different sizes; and what the stat of a layer's file tells of it, and when it
 * is too young to tell anything.
 */
#include "image.h"
#include "memfile.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    MOST = 3,
};

typedef struct Stack {
    char *dir;
    QcGate *gate;
    QcFile *files[MOST]; /* the top is the last */
    QcCache *cache;
    QcImage *image;
    QcChain *chain;
    QcView *view; /* borrowed */
} Stack;

static char *path_of(const Stack *s, unsigned layer)
{
    return g_strdup_printf("%s/%u", s->dir, layer);
}

static void open_stack(Stack *s, unsigned top)
{
    s->cache = qc_cache_new(1 << 20);
    cr_assert_eq(0,
                 qc_image_open(s->files[top], "top", QC_FORMAT_QCOW2, s->cache, &s->image, NULL));
    cr_assert_eq(0, qc_chain_open(s->gate, s->image, s->cache, &s->chain));
    cr_assert_eq(qc_chain_layers(s->chain), top + 1);
    s->view = qc_chain_view(s->chain, 0);
}

static void close_stack(Stack *s)
{
    qc_chain_free(s->chain);
    qc_image_unref(s->image);
    qc_cache_unref(s->cache);
}

/* ---- where layers end ---------------------------------------------------------------------- */

static QcFile *make_sized(Stack *s, unsigned layer, uint64_t size, unsigned bits)
{
    g_autofree char *path = path_of(s, layer);
    g_autofree char *backing = layer > 0 ? g_strdup_printf("%u", layer - 1) : NULL;
    QcCreateOptions options = {.virtual_size = size,
                               .cluster_bits = bits,
                               .backing_file = backing,
                               .backing_format = backing ? "qcow2" : NULL};
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    cr_assert_eq(0, qc_file_new_fd(fd, &s->files[layer]));
    cr_assert_eq(0, qc_create(s->files[layer], &options, NULL));
    return s->files[layer];
}

static void remove_stack(Stack *s)
{
    qc_gate_unref(s->gate);
    for (unsigned i = 0; i < MOST; i++) {
        g_autofree char *path = path_of(s, i);

        qc_file_unref(s->files[i]);
        g_unlink(path);
    }
    g_rmdir(s->dir);
    g_free(s->dir);
}

/*
 * A small layer between two larger ones: behind its end nothing shines through, to the byte,
 * whether it is looked up alone or remembered.
 */
Test(sizes, behind_the_end_of_a_layer_is_nothing)
{
    enum { SMALL = 20 * 65536 + 512 }; /* not where a cluster ends */
    Stack s = {.dir = g_dir_make_tmp("sizes-XXXXXX", NULL)};
    const uint64_t size = 40 * 65536;
    g_autofree uint8_t *bytes = g_malloc(size), *buf = g_malloc(size);
    Stack base = s;
    cr_assert_eq(0, qc_gate_new(s.dir, QC_BACKING_STORE, &s.gate, NULL));
    make_sized(&s, 0, size, 16);
    make_sized(&s, 1, SMALL, 16);
    make_sized(&s, 2, size, 16);
    base = s;
    memset(bytes, 'b', size);
    open_stack(&base, 0);
    cr_assert_eq(0, qc_image_write(base.image, base.chain, bytes, size, 0, NULL, NULL));
    close_stack(&base);
    for (unsigned i = 0; i < 3; i++)
        qc_file_settle(s.files[i], NULL);
    open_stack(&s, 2);

    memset(bytes + SMALL, 0, size - SMALL);
    for (unsigned round = 0; round < 2; round++) {
        memset(buf, 0xee, size);
        cr_assert_eq(qc_view_read(s.view, buf, size, 0), (ssize_t)size);
        cr_expect_eq(0, memcmp(buf, bytes, size), "round %u", round);
    }
    cr_expect_eq(qc_view_seek(s.view, 0, false), 0);
    cr_expect_eq(qc_view_seek(s.view, 0, true), SMALL);
    cr_expect_eq(qc_view_seek(s.view, SMALL, false), -ENXIO);
    close_stack(&s);
    remove_stack(&s);
}

/* ---- what a stat tells --------------------------------------------------------------------- */

/* Who changes a file in place can set all its times back but one. */
Test(sizes, a_change_behind_the_same_mtime_is_noticed)
{
    Stack s = {.dir = g_dir_make_tmp("sizes-XXXXXX", NULL)};
    QcFile *middle;
    QcFileStat st;
    uint8_t byte = 1;

    cr_assert_eq(0, qc_gate_new(s.dir, QC_BACKING_STORE, &s.gate, NULL));
    for (unsigned i = 0; i < MOST; i++)
        make_sized(&s, i, 65536, 16);
    for (unsigned i = 0; i < MOST; i++)
        qc_file_settle(s.files[i], NULL);
    middle = s.files[1];
    open_stack(&s, 2);
    cr_assert_eq(0, qc_view_check(s.view));
    cr_assert_eq(0, qc_file_stat(middle, &st));
    cr_assert_eq(0, qc_file_write(middle, &byte, 1, st.size - 1));
    g_autofree char *path = path_of(&s, 1);
    struct timespec times[2] = {{st.mtime / 1000000000, st.mtime % 1000000000},
                                {st.mtime / 1000000000, st.mtime % 1000000000}};
    cr_assert_eq(0, utimensat(AT_FDCWD, path, times, 0));
    cr_expect_eq(-ESTALE, qc_view_check(s.view));
    close_stack(&s);
    remove_stack(&s);
}

/* How long ago the file of the next test was changed, in milliseconds; or when, if not 0. */
static int64_t age_ms, changed_at;

static int stat_of_that_age(QcFile *file, QcFileStat *ret)
{
    int err = qc_file_stat_at(AT_FDCWD, "/", 0, ret);
    MemFile *m = (MemFile *)file;

    ret->size = m->data->len;
    ret->mode = S_IFREG | 0644;
    ret->ctime = changed_at ? changed_at : (g_get_real_time() - age_ms * 1000) * 1000;
    ret->mtime = ret->ctime;
    return err;
}

/* A second change may hide behind a stat that was taken right after the first one. */
Test(sizes, a_file_that_has_just_changed_is_trusted_for_nothing)
{
    static const struct {
        int64_t age_ms;
        bool settled;
    } cases[] = {{0, false}, {5, false}, {1000, true}, {-5, false}, {-1000000, true}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemFile *file = mem_file_new(NULL, 0);
        QcFileOps ops = *mem_file(file)->ops;
        Stack s = {.files = {mem_file(file)}};

        cr_assert_eq(0, qc_create(mem_file(file), &(QcCreateOptions){.virtual_size = 65536}, NULL));
        ops.stat = stat_of_that_age;
        file->base.ops = &ops;
        age_ms = cases[i].age_ms;
        changed_at = 0;
        open_stack(&s, 0);
        changed_at = qc_image_info(s.image)->stat.ctime; /* from now on nothing changes */
        cr_expect_eq(qc_image_is_settled(s.image), cases[i].settled, "%zu", i);
        cr_expect_eq(qc_view_check(s.view), cases[i].settled ? 0 : -ESTALE, "%zu", i);
        close_stack(&s);
        qc_file_unref(mem_file(file));
    }
}
