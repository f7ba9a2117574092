/* A file that grows while it is opened as an image. */
#include "memfile.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>

enum {
    CLUSTER = 4096,
    DISK = 64 * CLUSTER,
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* One file until somebody asks for its stat, another from then on. */
typedef struct Growing {
    QcFile base;
    MemFile *before, *after;
    bool grown;
} Growing;

static MemFile *is_now(QcFile *file)
{
    Growing *g = (Growing *)file;
    return g->grown ? g->after : g->before;
}

static ssize_t growing_pread(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    QcFile *now = mem_file(is_now(file));
    return now->ops->pread(now, buf, len, offset);
}

static int growing_stat(QcFile *file, QcFileStat *ret)
{
    QcFile *now = mem_file(is_now(file));
    ((Growing *)file)->grown = true;
    return qc_file_stat(now, ret);
}

static int growing_has_writer(QcFile *file)
{
    (void)file;
    return -EOPNOTSUPP;
}

static int growing_lock_held(QcFile *file, unsigned first, unsigned n)
{
    (void)file, (void)first, (void)n;
    return 0;
}

static void growing_close(QcFile *file)
{
    Growing *g = (Growing *)file;
    qc_file_unref(mem_file(g->before));
    qc_file_unref(mem_file(g->after));
    g_free(g);
}

static const QcFileOps growing_ops = {.pread = growing_pread,
                                      .stat = growing_stat,
                                      .lock_held = growing_lock_held,
                                      .has_writer = growing_has_writer,
                                      .close = growing_close};

/* A command, or QEMU, may finish between the look at the length and the reading. */
Test(growing, an_image_that_grows_while_it_is_opened_is_sound)
{
    bool unknown;
    Step write = {.kind = STEP_WRITE, .offset = 20 * CLUSTER, .len = 30 * CLUSTER, .seed = 3};
    Step take = {.kind = STEP_TAKE, .name = "s"};
    Growing *g = g_new0(Growing, 1);
    g->before = script_image(&kind, DISK);
    g->after = mem_file_copy(g->before);
    cr_assert_eq(0, script_run(g->after, &write, &unknown));
    cr_assert_eq(0, script_run(g->after, &take, &unknown));
    cr_assert_gt(g->after->data->len, g->before->data->len);
    qc_file_init(&g->base, &growing_ops);

    Opened o = opened_new(&g->base, NULL);
    g_autoptr(QcView) snapshot = NULL;
    uint8_t buf[CLUSTER];
    cr_assert_eq(qc_image_info(o.image)->n_snapshots, 1);
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &snapshot));
    cr_expect_eq(qc_view_read(snapshot, buf, CLUSTER, 49 * CLUSTER), CLUSTER);
    cr_expect_eq(qc_view_read(o.view, buf, CLUSTER, 49 * CLUSTER), CLUSTER);
    opened_clear(&o);
    qc_file_unref(&g->base);
}
