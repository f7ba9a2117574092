/*
 * No memory: every allocation that the engine is prepared to see fail fails in turn, in every
 * command, on images of every kind. The result is -ENOMEM, the image is as before, and the
 * command works when it is tried again. The linker puts the functions here in the place of
 * GLib's, for the engine alone (tests/CMakeLists.txt). What aborts instead is in starve.c.
 */
#include "faults.h"
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
    return sample_is_big(s) ? 3 : s->kind.cluster_bits > 14 ? 9 : 0;
}

Test(memory, every_failed_allocation_is_reported_and_changes_nothing, .timeout = 280)
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
    cr_assert_gt(n.failures, 8000);
    cr_assert_lt(n.successes, n.failures / 100);
}
