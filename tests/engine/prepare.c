/* Looking up in a chain what will be read next: it is done once, and of what is still true only. */
#include "memfile.h"
#include "script.h"
#include "view.h"
#include <criterion/criterion.h>
#include <errno.h>

enum {
    AREA = 512 * 4096, /* what is looked up together, where clusters have 4096 bytes */
    DISK = 4 * AREA,
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* Both files' reads are counted; asking for their stat is none. */
static struct {
    QcFileOps ops;
    const QcFileOps *usual;
    unsigned reads;
} counting;

static ssize_t count_read(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    counting.reads++;
    return counting.usual->pread(file, buf, len, offset);
}

/* Two layers, each with data in every area. */
typedef struct Pair {
    QcCache *cache;
    MemFile *files[2];
    QcImage *images[2];
    QcView *view;
} Pair;

static void open_layer(Pair *p, unsigned i)
{
    MemFile *file = script_image(&kind, DISK);
    bool unknown;

    for (uint64_t at = i * 8192; at < DISK; at += AREA)
        cr_assert_eq(
            0, script_run(file, &(Step){.kind = STEP_WRITE, .offset = at, .len = 4096}, &unknown));
    file->mtime = 1; /* settled */
    p->files[i] = file;
    cr_assert_eq(
        0, qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, p->cache, &p->images[i], NULL));
    counting.usual = file->base.ops;
    counting.ops = *file->base.ops;
    counting.ops.pread = count_read;
    file->base.ops = &counting.ops;
}

static Pair open_pair(void)
{
    Pair p = {.cache = qc_cache_new(4 << 20)};

    open_layer(&p, 0);
    open_layer(&p, 1);
    p.view = qc_view_new_active(p.images[1], qc_view_new_active(p.images[0], NULL));
    return p;
}

static void close_pair(Pair *p)
{
    qc_view_unref(p->view);
    for (unsigned i = 0; i < 2; i++) {
        qc_image_unref(p->images[i]);
        qc_file_unref(mem_file(p->files[i]));
    }
    qc_cache_unref(p->cache);
}

/* How many reads it takes to find out what is there. */
static unsigned reads_to_find(const Pair *p, uint64_t offset)
{
    g_auto(QcPlace) place = {0};
    QcExtent e;

    counting.reads = 0;
    cr_assert_eq(0, qc_view_map_to_read(p->view, offset, 4096, &place, &e));
    cr_expect_eq(e.kind, QC_EXTENT_DATA);
    return counting.reads;
}

static unsigned reads_to_prepare(const Pair *p, uint64_t offset)
{
    counting.reads = 0;
    qc_view_prepare(p->view, offset);
    return counting.reads;
}

Test(prepare, what_comes_next_is_looked_up_before)
{
    Pair p = open_pair();

    cr_expect_gt(reads_to_find(&p, 0), 0);
    for (unsigned i = 1; i < DISK / AREA; i++) {
        cr_expect_gt(reads_to_prepare(&p, (i - 1) * AREA), 0, "area %u", i);
        cr_expect_eq(reads_to_prepare(&p, (i - 1) * AREA + 4096), 0, "it has been");
        cr_expect_eq(reads_to_find(&p, (uint64_t)i * AREA), 0, "area %u", i);
    }
    cr_expect_eq(reads_to_prepare(&p, DISK - 1), 0, "nothing comes next");
    close_pair(&p);
}

/* Nobody will read in a view of which a layer has changed. */
Test(prepare, nothing_is_looked_up_in_what_is_stale)
{
    Pair p = open_pair();

    cr_expect_eq(0, qc_view_check(p.view));
    p.files[0]->mtime++;
    cr_expect_eq(-ESTALE, qc_view_check(p.view));
    cr_expect_eq(reads_to_prepare(&p, 0), 0);
    close_pair(&p);
}

/* Where there is one layer, nothing is remembered. */
Test(prepare, of_one_layer_nothing_is_looked_up)
{
    Pair p = open_pair();
    Pair one = {.view = qc_view_new_active(p.images[0], NULL)};

    cr_expect_gt(reads_to_find(&one, 0), 0);
    cr_expect_eq(reads_to_prepare(&one, 0), 0);
    qc_view_unref(one.view);
    close_pair(&p);
}
