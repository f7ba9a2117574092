/*
 * Fuzz target: an image that another program changes while it is read, as one that ignores the
 * locks may. The input is 16 bytes that say what is done and how what is read changes, and the
 * file. Each reading gives other bytes than the one before may have given; so whatever was checked
 * at one reading must be checked again at the next, or be remembered.
 *
 * Nothing can be promised of the disks then. But every call comes to an end, in bounded time and
 * memory, and with an error that says something.
 */
#include "countfile.h"
#include "format.h"
#include "fuzz.h"
#include "memfile.h"
#include "script.h"
#include "shape.h"
#include <string.h>

enum {
    MAX_READ = 256 << 10,
    WRITTEN = 3000,
    MAX_GROWTH = 8 << 20, /* beyond, the file cannot grow */
    MAX_CHANGES = 5,      /* of one reading */
};

#define READ ((StepKind)N_STEP_KINDS) /* besides the commands */

typedef struct Plan {
    Step step; /* or READ */
    bool check_first;
    uint64_t steady; /* readings until the first that may change something */
    unsigned seldom; /* of those after it, one in so many does */
    GRand *rand;     /* which, and how */
} Plan;

static uint32_t below(GRand *rand, uint64_t n)
{
    return n > 0 ? g_rand_int(rand) % (uint32_t)MIN(n, UINT32_MAX) : 0;
}

/* What a table may well hold: a number of anything, or an entry with some of its flags. */
static uint64_t likely_word(GRand *rand)
{
    switch (below(rand, 4)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return (uint64_t)below(rand, 300) << (below(rand, 2) * 32);
    default:
        return (uint64_t)below(rand, 8) << 61 | (uint64_t)below(rand, 400) << 9 | below(rand, 2);
    }
}

static void change(GRand *rand, uint8_t *bytes, size_t len)
{
    size_t at = below(rand, len), from = below(rand, len), copied = 8u << below(rand, 5);
    be64 word = be64_make(likely_word(rand));
    switch (below(rand, 4)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << below(rand, 8));
        break;
    case 1:
        bytes[at] = (uint8_t)g_rand_int(rand);
        break;
    case 2:
        at -= at % sizeof(word);
        memcpy(bytes + at, &word, MIN(sizeof(word), len - at));
        break;
    default:
        at -= at % sizeof(word);
        from -= from % sizeof(word);
        memmove(bytes + at, bytes + from, MIN(copied, len - MAX(at, from)));
    }
}

static void on_read(void *data, uint8_t *bytes, ssize_t n, uint64_t offset)
{
    Plan *plan = data;
    (void)offset;
    if (n <= 0 || plan->steady > 0) {
        plan->steady -= MIN(plan->steady, 1);
        return;
    }
    if (below(plan->rand, plan->seldom) > 0)
        return;
    for (uint32_t left = 1 + below(plan->rand, MAX_CHANGES); left > 0; left--)
        change(plan->rand, bytes, (size_t)n);
}

static Plan take_plan(FuzzBytes *in)
{
    Plan plan = {
        .step = {.kind = (StepKind)(fuzz_take(in, 1) % (READ + 1)), .name = "new", .len = WRITTEN}};
    uint64_t flags = fuzz_take(in, 1);
    plan.step.snapshot = flags % 8;
    plan.check_first = flags & 0x80;
    plan.steady = fuzz_take(in, 1) % 64;
    plan.seldom = fuzz_take(in, 1) % 12 + 1;
    plan.step.offset = fuzz_take(in, 3);
    plan.rand = g_rand_new_with_seed((guint32)fuzz_take(in, 4));
    return plan;
}

static void read_view(QcView *view, uint64_t offset)
{
    g_autofree uint8_t *bytes = g_malloc(MAX_READ);
    ssize_t n = qc_view_read(view, bytes, MAX_READ, offset);
    fuzz_require(n <= MAX_READ);
    qc_view_seek(view, offset, false);
    qc_view_seek(view, offset, true);
    qc_view_check(view);
}

static void read_disks(const Plan *plan, QcImage *image, QcCache *cache)
{
    g_autoptr(QcChain) chain = NULL;
    g_autoptr(QcView) snapshot = NULL;
    if (qc_chain_open(NULL, image, cache, &chain) < 0)
        return;
    read_view(qc_chain_view(chain, 0), plan->step.offset);
    if (qc_chain_snapshot_view(chain, plan->step.snapshot, &snapshot) == 0)
        read_view(snapshot, plan->step.offset);
}

static void carry_out(const Plan *plan, QcFile *file)
{
    g_autoptr(GError) error = NULL, check_error = NULL;
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    QcCheck check = {0};
    QcRun how = {0};
    int err = qc_image_open(file, "fuzz", QC_FORMAT_QCOW2, cache, &image, &error);
    if (!err && plan->check_first)
        fuzz_check_error(qc_image_check(image, NULL, &check, &check_error), check_error);
    if (!err && plan->step.kind == READ)
        read_disks(plan, image, cache);
    else if (!err)
        err = script_run_opened(image, NULL, cache, &plan->step, &how, &error);
    fuzz_check_error(err, error);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    if (size < SHAPE_PREFIX)
        return;
    FuzzBytes in = {data, SHAPE_PREFIX};
    Plan plan = take_plan(&in);
    MemFile *inner = mem_file_new(data + SHAPE_PREFIX, size - SHAPE_PREFIX);
    inner->max_size = inner->data->len + MAX_GROWTH;
    CountFile *file = count_file_new(mem_file(inner));
    file->on_read = on_read;
    file->on_read_data = &plan;
    carry_out(&plan, count_file(file));
    qc_file_unref(count_file(file));
    g_rand_free(plan.rand);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return shape_mutate_with_prefix(data, size, max_size, seed, 3);
}
