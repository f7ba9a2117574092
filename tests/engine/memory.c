/*
 * No memory: every allocation of the engine fails in turn, in every command, on images of every
 * kind. The result is -ENOMEM, the image is as before, and the command works when it is tried
 * again. The same when a chain is opened. The linker puts the functions here in the place of
 * GLib's, for the engine alone (tests/CMakeLists.txt). That there are no others is in starve.c.
 */
#include "faults.h"
#include "image.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <glib/gstdio.h>

static int64_t calls, fail_at = -1;
static bool fail_on;

static bool due(void)
{
    int64_t n = calls++;
    return fail_at >= 0 && (n == fail_at || (fail_on && n > fail_at));
}

#define WRAP(name, params, args)                                                                   \
    gpointer __real_##name params;                                                                 \
    gpointer __wrap_##name params;                                                                 \
    gpointer __wrap_##name params                                                                  \
    {                                                                                              \
        return due() ? NULL : __real_##name args;                                                  \
    }

WRAP(g_try_malloc, (gsize n), (n))
WRAP(g_try_malloc0, (gsize n), (n))
WRAP(g_try_malloc_n, (gsize n, gsize size), (n, size))
WRAP(g_try_malloc0_n, (gsize n, gsize size), (n, size))
WRAP(g_try_realloc, (gpointer mem, gsize n), (mem, n))
WRAP(g_try_realloc_n, (gpointer mem, gsize n, gsize size), (mem, n, size))
WRAP(g_strdup, (const gchar *s), (s)) /* ends the process: must not be called */

static void begin(int64_t n, bool from_then_on)
{
    calls = 0;
    fail_at = n;
    fail_on = from_then_on;
}

static int64_t end(void)
{
    fail_at = -1;
    return calls;
}

static const FaultSource memory = {begin, end};

/* Large ones take longer, and are not much different. */
static unsigned most_of(const Sample *s)
{
    bool slow = s->kind.cluster_bits > 14 || g_getenv("SANITIZED");
    return sample_is_big(s) ? 3 : slow ? 9 : 0;
}

Test(memory, every_failed_allocation_is_reported_and_changes_nothing, .timeout = 1000)
{
    g_autofree char *dir = g_dir_make_tmp("memory.XXXXXX", NULL);
    g_autofree char *base = g_build_filename(dir, "base.raw", NULL);
    g_autoptr(QcGate) gate = samples_make_base(dir);
    FaultCounts n = {0};
    mem_keep_memory();
    for (size_t i = 0; i < n_samples; i++) {
        for (unsigned c = 0; c < sample_n_commands(&samples[i]); c += sample_step(&samples[i])) {
            for (int on = 0; on < (i % 4 == 0 ? 2 : 1); on++) {
                FaultPlan plan = {.gate = gate,
                                  .error = -ENOMEM,
                                  .from_then_on = on,
                                  .source = &memory,
                                  .most = most_of(&samples[i]),
                                  .seed = c};
                g_autofree char *finding = faults_try(&samples[i], c, &plan, &n);
                cr_assert_null(finding, "%s", finding);
            }
        }
    }
    g_unlink(base);
    g_rmdir(dir);
    cr_log_info("%lu failed allocations, %lu commands that succeeded all the same",
                (unsigned long)n.faults, (unsigned long)n.successes);
    cr_assert_eq(n.unknown, 0);
    cr_assert_gt(n.failures, g_getenv("SANITIZED") ? 1500 : 8000);
    cr_assert_lt(n.successes, n.failures / 100);
}

/* ---- opening a chain ---------------------------------------------------------------------- */

/* An image in the store with a snapshot, above what backing names. */
static void make_overlay(const char *dir, const char *name, const char *backing, const char *format)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    QcCreateOptions options = {
        .virtual_size = 1 << 20, .backing_file = backing, .backing_format = format};
    Step take = {.kind = STEP_TAKE, .name = "one"};
    MemFile *file = mem_file_new(NULL, 0);
    bool unknown;
    cr_assert_eq(0, qc_create(mem_file(file), &options, NULL));
    cr_assert_eq(0, script_run(file, &take, &unknown));
    cr_assert(g_file_set_contents(path, (char *)file->data->data, file->data->len, NULL));
    qc_file_unref(mem_file(file));
}

static void make_link(const char *dir, const char *name, const char *target)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    cr_assert_eq(0, symlink(target, path));
}

/*
 * A chain of three, found in every way there is: the second by two links, the last of which names
 * it absolutely; the third outside the store, through a directory and a link.
 */
static char *make_chain(void)
{
    char *root = g_dir_make_tmp("memory.XXXXXX", NULL);
    g_autofree char *store = g_build_filename(root, "store", NULL);
    g_autofree char *middle = g_build_filename(store, "middle", NULL);
    g_autofree char *base = g_build_filename(root, "base", NULL);
    cr_assert_eq(0, g_mkdir(store, 0755));
    cr_assert(g_file_set_contents(base, root, -1, NULL));
    make_overlay(store, "top", "hop", "qcow2");
    make_overlay(store, "middle", "../store/../link", "raw");
    make_link(store, "hop", "turn");
    make_link(store, "turn", middle);
    make_link(root, "link", "base");
    return root;
}

static void remove_chain(const char *root)
{
    static const char *const names[] = {"store/top", "store/hop", "store/turn", "store/middle",
                                        "store",     "link",      "base"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(root, names[i], NULL);
        cr_expect_eq(0, g_remove(path));
    }
    cr_expect_eq(0, g_rmdir(root));
}

/* Whether an opening got to reopening. A name that cannot be looked up for want of memory is there
 * as good as one that leads elsewhere. */
static bool reopening;

static bool is_same(const QcChain *chain, const QcChain *was)
{
    for (unsigned i = 0; i < 3; i++)
        if (g_strcmp0(qc_chain_image(chain, i)->path, qc_chain_image(was, i)->path) != 0)
            return false;
    return true;
}

/* Open the chain anew, when the name of its second layer is gone. */
static int reopen_chain(QcGate *gate, const QcChain *was, QcCache *cache)
{
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    QcFile *file = qc_chain_image(was, 0)->file;
    int dir = qc_gate_dirfd(gate);
    reopening = true;
    int err = qc_image_open(file, "top", QC_FORMAT_QCOW2, cache, &image, NULL);
    cr_assert_eq(0, renameat(dir, "hop", dir, "away"));
    if (!err)
        err = qc_chain_reopen(gate, image, cache, was, &chain);
    cr_assert_eq(0, renameat(dir, "away", dir, "hop"));
    bool whole = !err && qc_chain_layers(chain) == 3 && !qc_chain_error(chain);
    return err || (whole && is_same(chain, was)) ? err : -EIO;
}

/* Open it, and a view of its snapshot. */
static int open_chain(QcGate *gate)
{
    g_autoptr(QcFile) file = NULL;
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    g_autoptr(QcView) view = NULL;
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    reopening = false;
    if (!cache)
        return -ENOMEM;
    int err = qc_gate_open(gate, "hop", false, &file, NULL); /* a link to a link */
    g_clear_pointer(&file, qc_file_unref);
    if (!err)
        err = qc_gate_open(gate, "top", false, &file, NULL);
    if (!err)
        err = qc_image_open(file, "top", QC_FORMAT_QCOW2, cache, &image, NULL);
    if (!err)
        err = qc_chain_open(gate, image, cache, &chain);
    if (!err && (qc_chain_layers(chain) != 3 || qc_chain_error(chain)))
        return -EIO;
    if (!err)
        err = reopen_chain(gate, chain, cache);
    return err ? err : qc_chain_snapshot_view(chain, 0, &view);
}

static unsigned open_files(void)
{
    unsigned n = 0;
    GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(dir))
        n++;
    g_dir_close(dir);
    return n;
}

Test(memory, every_failed_allocation_of_an_opening_is_reported, .timeout = 1000)
{
    g_autofree char *root = make_chain(), *store = g_build_filename(root, "store", NULL);
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_ANY, &gate, NULL));
    begin(-1, false);
    cr_assert_eq(0, open_chain(gate));
    int64_t n_calls = end();
    unsigned files = open_files();
    cr_expect_gt(n_calls, 25);
    for (int on = 0; on < 2; on++) {
        for (int64_t n = 0; n < n_calls; n++) {
            begin(n, on);
            int err = open_chain(gate);
            end();
            cr_expect(err == -ENOMEM || (err == 0 && reopening), "allocation %d: %s", (int)n,
                      g_strerror(-err));
        }
    }
    cr_expect_eq(files, open_files());
    remove_chain(root);
}
