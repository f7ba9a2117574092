/* script.c - see script.h. */
#include "script.h"
#include "format.h"
#include <errno.h>
#include <string.h>

const Kind script_kinds[] = {
    {"v2-512", 2, 9, 16, false},       {"v2-64k", 2, 16, 16, false},
    {"v3-512-2bit", 3, 9, 2, false},   {"v3-512-64bit", 3, 9, 64, false},
    {"v3-4k-4bit", 3, 12, 4, false},   {"v3-4k-8bit", 3, 12, 8, false},
    {"v3-4k-32bit", 3, 12, 32, false}, {"v3-16k-extl2", 3, 14, 16, true},
};
const size_t script_n_kinds = G_N_ELEMENTS(script_kinds);

MemFile *script_image(const Kind *kind, uint64_t size)
{
    MemFile *file = mem_file_new(NULL, 0);
    QcCreateOptions options = {.virtual_size = size,
                               .version = kind->version,
                               .cluster_bits = kind->cluster_bits,
                               .refcount_bits = kind->refcount_bits,
                               .extended_l2 = kind->extended_l2};
    g_autoptr(GError) error = NULL;
    if (qc_create(mem_file(file), &options, &error) < 0)
        g_error("%s", error->message);
    return file;
}

MemFile *script_used_image(const Kind *kind, uint64_t size, unsigned n_steps)
{
    static const Step history[SCRIPT_HISTORY] = {
        {.kind = STEP_WRITE, .offset = 0, .len = 6000, .seed = 1},
        {.kind = STEP_TAKE, .name = "one"},
        {.kind = STEP_WRITE, .offset = 3000, .len = 5000, .seed = 2},
        {.kind = STEP_TAKE, .name = "two"},
        {.kind = STEP_WRITE, .offset = 1000, .len = 1500, .seed = 3},
        {.kind = STEP_WRITE, .offset = 70000, .len = 100, .seed = 4},
    };
    MemFile *file = script_image(kind, size);

    for (unsigned i = 0; i < n_steps; i++) {
        bool unknown;
        if (script_run(file, &history[i], &unknown) < 0)
            g_error("step %u of an image's history", i);
    }
    return file;
}

uint64_t script_size(const MemFile *file)
{
    QcDiskHeader h;
    memcpy(&h, file->data->data, sizeof(h));
    return be64_get(h.size);
}

static int run_write(QcImage *image, QcGate *gate, QcCache *cache, const Step *c, QcRun *run,
                     GError **error)
{
    g_autoptr(QcChain) chain = NULL;
    g_autofree uint8_t *bytes = g_try_malloc(c->len);
    int err = bytes ? qc_chain_open(gate, image, cache, &chain) : -ENOMEM;
    if (err < 0) {
        g_set_error_literal(error, QC_ERROR, -err, g_strerror(-err));
        return err;
    }
    for (uint64_t i = 0; i < c->len; i++)
        bytes[i] = step_byte(c, i);
    return qc_image_write(image, chain, bytes, c->len, c->offset, run, error);
}

int script_run_opened(QcImage *image, QcGate *gate, QcCache *cache, const Step *c, QcRun *run,
                      GError **error)
{
    QcCheck found;
    switch (c->kind) {
    case STEP_TAKE:
        return qc_snapshot_take(image, c->name, 1795000000123456789, run, error);
    case STEP_REVERT:
        return qc_snapshot_revert(image, c->snapshot, run, error);
    case STEP_DELETE:
        return qc_snapshot_delete(image, c->snapshot, run, error);
    case STEP_RENAME:
        return qc_snapshot_rename(image, c->snapshot, c->name, run, error);
    case STEP_REPAIR:
        return qc_image_repair(image, run, &found, error);
    case STEP_WRITE:
    default:
        return run_write(image, gate, cache, c, run, error);
    }
}

int script_run_on(QcFile *file, QcGate *gate, const Step *c, bool *ret_unknown)
{
    QcRun run = {0};
    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    int err = cache ? qc_image_open(file, "mem", QC_FORMAT_QCOW2, cache, &image, NULL) : -ENOMEM;
    if (!err)
        err = script_run_opened(image, gate, cache, c, &run, NULL);
    *ret_unknown = run.unknown;
    return err;
}

int script_run(MemFile *file, const Step *c, bool *ret_unknown)
{
    return script_run_on(mem_file(file), file->gate, c, ret_unknown);
}
