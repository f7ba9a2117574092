/*
 * Fuzz target: opening a whole image and running two commands on it. The input is 16 bytes
 * that say which, and the file. What a command must keep is looked at before and after:
 *
 *   - it fails: the header and every disk are as they were
 *   - it succeeds: the image can be opened, and every disk is what the command says
 *   - refcounts and flags that were right are right; after a repair they always are
 *   - what the engine's own check says is what shape_audit() says
 *
 * An image whose refcounts are too low (SHAPE_UNSOUND) can lose disks to anybody who writes to
 * it; there only the first half of this is asked for.
 */
#include "disks.h"
#include "format.h"
#include "fuzz.h"
#include "script.h"
#include "shape.h"
#include <errno.h>
#include <string.h>

enum {
    COMMANDS = 2,
    MAX_WRITE = 3000,
    MAX_GROWTH = 8 << 20, /* beyond, the file cannot grow */
};

typedef struct Order {
    Step step;
    int64_t fail_at; /* -1: no fault */
    int fail_error;
    bool short_io;
} Order;

/* The state of the image before a command. */
typedef struct Before {
    Soundness soundness;
    uint8_t sector[QC_SECTOR];
    unsigned n_snapshots;
    Disks *disks;
} Before;

static char *name_of(uint64_t kind)
{
    switch (kind % 8) {
    case 0:
        return g_strdup("");
    case 1:
        return g_strnfill(255 + kind / 8 % 2, 'n');
    case 2:
        return g_strdup("one"); /* seeds have one of that name */
    default:
        return g_strdup_printf("fuzz\n%d", (int)(kind / 8));
    }
}

static Order take_order(FuzzBytes *in)
{
    Order o = {.step.kind = (StepKind)(fuzz_take(in, 1) % N_STEP_KINDS)};
    uint64_t flags = fuzz_take(in, 1);
    o.step.snapshot = flags % 8;
    o.short_io = flags & 0x40;
    o.fail_at = flags & 0x80 ? (int64_t)fuzz_take(in, 1) % 64 : ((void)fuzz_take(in, 1), -1);
    o.step.seed = (uint8_t)fuzz_take(in, 1);
    o.step.name = name_of(o.step.seed);
    o.step.offset = fuzz_take(in, 3);
    o.step.len = o.step.seed * 16 % MAX_WRITE + 1;
    o.fail_error = o.step.seed & 1 ? -EIO : -ENOSPC;
    return o;
}

static int run(const Step *step, MemFile *file, QcRun *how)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    int err = qc_image_open(mem_file(file), "fuzz", QC_FORMAT_QCOW2, cache, &image, &error);
    if (!err)
        err = script_run_opened(image, NULL, cache, step, how, &error);
    fuzz_check_error(err, error);
    return err;
}

/* With faults and short transfers, as the order says. */
static int run_order(const Order *o, MemFile *file, QcRun *how)
{
    file->calls = 0;
    file->fail_at = o->fail_at;
    file->fail_error = o->fail_error;
    file->short_io = o->short_io;
    int err = run(&o->step, file, how);
    file->fail_at = -1;
    file->short_io = false;
    return err;
}

/* Disk i of before must be disk k of now. */
static void require_disk(const Before *before, unsigned i, const Disks *now, unsigned k)
{
    const Disk *then = disks_get(before->disks, i);
    if (!then || k > qc_image_info(now->image)->n_snapshots)
        return;
    g_autoptr(QcView) view = disks_view(now, k);
    /* A snapshot that does not state its size (old images) has that of the disk, whatever it is. */
    bool follows = then->size == disks_get(before->disks, 0)->size &&
                   qc_view_size(view) == disks_get(now, 0)->size;
    if (i > 0 && k > 0 && follows && then->size != qc_view_size(view))
        return;
    disks_require_same(then, view, 0, 0);
}

static void require_name(const Before *before, unsigned i, const Disks *now, unsigned k,
                         const char *name)
{
    const Disk *then = disks_get(before->disks, i);
    const QcSnapshot *s = &qc_image_info(now->image)->snapshots[k - 1];
    if (name)
        fuzz_require(s->name_len == strlen(name) && memcmp(s->name, name, s->name_len) == 0);
    else if (then)
        fuzz_require(s->name_len == then->name->len &&
                     (s->name_len == 0 || memcmp(s->name, then->name->data, s->name_len) == 0));
}

/* All snapshots but the one left out (0: none) are there in their order, and what they were. */
static void require_snapshots(const Before *before, const Disks *now, unsigned left_out,
                              unsigned renamed, const char *name)
{
    for (unsigned i = 1, k = 1; i <= before->n_snapshots; i++) {
        if (i == left_out)
            continue;
        require_disk(before, i, now, k);
        require_name(before, i, now, k, i == renamed ? name : NULL);
        k++;
    }
}

static void require_written(const Step *write, const Before *before, const Disks *now)
{
    uint8_t bytes[MAX_WRITE];
    g_autoptr(QcView) view = disks_view(now, 0);
    fuzz_require(qc_view_read(view, bytes, write->len, write->offset) == (ssize_t)write->len);
    for (uint64_t i = 0; i < write->len; i++)
        fuzz_require(bytes[i] == step_byte(write, i), "byte %d", (int)i);
    disks_require_same(disks_get(before->disks, 0), view, write->offset,
                       write->offset + write->len);
}

/* The disks after a command that succeeded. */
static void require_done(const Step *step, const Before *before, const Disks *now)
{
    unsigned n = before->n_snapshots, k = step->snapshot + 1;
    unsigned expected = n + (step->kind == STEP_TAKE) - (step->kind == STEP_DELETE);
    fuzz_require(qc_image_info(now->image)->n_snapshots == expected);
    if (before->soundness < SHAPE_SOUND)
        return;
    require_snapshots(before, now, step->kind == STEP_DELETE ? k : 0,
                      step->kind == STEP_RENAME ? k : 0, step->name);
    if (step->kind == STEP_WRITE)
        require_written(step, before, now);
    else
        require_disk(before, step->kind == STEP_REVERT ? k : 0, now, 0);
    if (step->kind == STEP_TAKE) {
        require_disk(before, 0, now, n + 1);
        require_name(before, 0, now, n + 1, step->name);
    }
}

static void require_untouched(const Before *before, const Disks *now)
{
    fuzz_require(qc_image_info(now->image)->n_snapshots == before->n_snapshots);
    if (before->soundness < SHAPE_SOUND)
        return;
    require_snapshots(before, now, 0, 0, NULL);
    require_disk(before, 0, now, 0);
}

static void require_soundness(StepKind kind, bool done, const Before *before, const MemFile *file)
{
    char why[128];
    Soundness now = shape_audit(file, why), least = before->soundness;
    bool flags_anew = kind != STEP_RENAME && kind != STEP_WRITE;
    if (least == SHAPE_COUNTED && done && flags_anew)
        least = SHAPE_CLEAN;
    if (kind == STEP_WRITE) /* where one table or cluster stands in two places, flags go stale */
        least = MIN(least, SHAPE_COUNTED);
    fuzz_require(now >= least, "command %d: %d, was %d: %s", kind, now, before->soundness, why);
}

/* The engine's own opinion. It knows more rules than the audit, so a clean bill may differ. */
static void check_check(MemFile *file)
{
    char why[128];
    Soundness soundness = shape_audit(file, why);
    g_autoptr(GError) error = NULL;
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    QcCheck check = {0};
    if (qc_image_open(mem_file(file), "fuzz", QC_FORMAT_QCOW2, cache, &image, NULL) < 0)
        return;
    int err = qc_image_check(image, NULL, &check, &error);
    fuzz_check_error(err, error);
    if (err == 0)
        fuzz_require((check.errors > 0) == (check.first[0] != '\0'));
    if (err == 0 && check.errors == 0 && check.leaks == 0)
        fuzz_require(soundness == SHAPE_CLEAN || soundness == SHAPE_SOUND, "clean? %s", why);
}

static void check_order(const Order *o, MemFile *file, const Before *before)
{
    QcRun how = {0};
    int err = run_order(o, file, &how);
    g_autoptr(Disks) now = disks_open(file);
    fuzz_require(now, "after result %d the image cannot be opened", err);
    if (how.unknown)
        return; /* no call fails in this way and was not done; but that need not be known */
    if (err < 0) {
        fuzz_require(memcmp(before->sector, file->data->data,
                            MIN(file->data->len, sizeof(before->sector))) == 0,
                     "failed, but the header changed");
        require_untouched(before, now);
    } else {
        require_done(&o->step, before, now);
    }
    require_soundness(o->step.kind, err == 0, before, file);
    check_check(file);
}

/* False when the image cannot be opened. */
static bool run_command(FuzzBytes *in, MemFile *file)
{
    char why[128];
    Before before = {.soundness = shape_audit(file, why), .disks = disks_open(file)};
    if (!before.disks)
        return false;
    before.n_snapshots = qc_image_info(before.disks->image)->n_snapshots;
    memcpy(before.sector, file->data->data, MIN(file->data->len, sizeof(before.sector)));
    Order o = take_order(in);
    check_order(&o, file, &before);
    g_free((char *)o.step.name);
    disks_free(before.disks);
    return true;
}

void fuzz_input(const uint8_t *data, size_t size)
{
    if (size < SHAPE_PREFIX)
        return;
    FuzzBytes in = {data, SHAPE_PREFIX};
    MemFile *file = mem_file_new(data + SHAPE_PREFIX, size - SHAPE_PREFIX);
    file->max_size = file->data->len + MAX_GROWTH;
    file->sparse = data[SHAPE_PREFIX - 1] & 1;
    for (unsigned i = 0; i < COMMANDS; i++)
        if (!run_command(&in, file))
            break;
    qc_file_unref(mem_file(file));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return shape_mutate_with_prefix(data, size, max_size, seed, 1);
}
