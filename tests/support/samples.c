/* samples.c - see samples.h. */
#include "samples.h"
#include "craft.h"
#include "format.h"
#include <errno.h>
#include <string.h>

const Sample samples[] = {
    {{"v2-512", 2, 9, 16, false}, 0},
    {{"v2-4k", 2, 12, 16, false}, 0},
    {{"v2-64k", 2, 16, 16, false}, 0},
    {{"v2-64k-compressed", 2, 16, 16, false}, TRAIT_COMPRESSED},
    {{"v3-512-1bit", 3, 9, 1, false}, TRAIT_EMPTY},
    {{"v3-512-2bit", 3, 9, 2, false}, 0},
    {{"v3-512-8bit", 3, 9, 8, false}, TRAIT_RESIZED},
    {{"v3-512-64bit", 3, 9, 64, false}, TRAIT_VM_STATE},
    {{"v3-4k", 3, 12, 16, false}, TRAIT_RESIZED},
    {{"v3-64k", 3, 16, 16, false}, TRAIT_RESIZED},
    {{"v3-2m", 3, 21, 16, false}, 0},
    {{"v3-2m-8bit-vmstate", 3, 21, 8, false}, TRAIT_VM_STATE},
    {{"v3-512-empty", 3, 9, 16, false}, TRAIT_EMPTY},
    {{"v3-4k-compressed", 3, 12, 16, false}, TRAIT_COMPRESSED},
    {{"v3-512-compressed-64bit", 3, 9, 64, false}, TRAIT_COMPRESSED | TRAIT_RESIZED},
    {{"v3-16k-extl2", 3, 14, 16, true}, TRAIT_SUBCLUSTERS},
    {{"v3-16k-extl2-all", 3, 14, 8, true}, TRAIT_SUBCLUSTERS | TRAIT_COMPRESSED | TRAIT_VM_STATE},
    {{"v3-4k-vmstate", 3, 12, 16, false}, TRAIT_VM_STATE},
    {{"v3-4k-backing", 3, 12, 16, false}, TRAIT_BACKING},
    {{"v3-512-bitmap", 3, 9, 16, false}, TRAIT_BITMAP},
    {{"v3-64k-bitmap", 3, 16, 16, false}, TRAIT_BITMAP},
    {{"v3-4k-lazy", 3, 12, 16, false}, TRAIT_LAZY},
    {{"v3-4k-dirty", 3, 12, 16, false}, TRAIT_DIRTY},
    {{"v3-512-dirty-2bit", 3, 9, 2, false}, TRAIT_DIRTY},
    {{"v3-512-dirty-compressed", 3, 9, 16, false}, TRAIT_DIRTY | TRAIT_COMPRESSED},
    {{"v3-512-leaks", 3, 9, 8, false}, TRAIT_LEAKS},
    {{"v3-64k-leaks", 3, 16, 16, false}, TRAIT_LEAKS},
    {{"v3-512-slot-last", 3, 9, 16, false}, TRAIT_SLOT_LAST},
    {{"v3-512-slot-none", 3, 9, 16, false}, TRAIT_SLOT_NONE},
    {{"v3-512-table-full", 3, 9, 64, false}, TRAIT_TABLE_FULL},
    {{"v3-512-thousand", 3, 9, 16, false}, TRAIT_THOUSAND},
    {{"v3-512-limit-last", 3, 9, 32, false}, TRAIT_LIMIT_LAST},
    {{"v3-512-limit-none", 3, 9, 32, false}, TRAIT_LIMIT_NONE},
};
const size_t n_samples = G_N_ELEMENTS(samples);

static bool has(const Sample *s, unsigned traits)
{
    return (s->traits & traits) != 0;
}

bool sample_is_big(const Sample *s)
{
    return s->kind.cluster_bits > 16 ||
           has(s, TRAIT_THOUSAND | TRAIT_LIMIT_LAST | TRAIT_LIMIT_NONE | TRAIT_TABLE_FULL);
}

unsigned sample_step(const Sample *s)
{
    bool big = sample_is_big(s);
    if (g_getenv("SANITIZED") && (big || s->kind.cluster_bits > 14))
        return sample_n_commands(s);
    return big ? 3 : 1;
}

/* ---- making ----------------------------------------------------------------------------- */

enum {
    BASE_BYTES = 128 << 10,
    TABLE_FULL_CLUSTERS = 3800, /* of the 4096 that one cluster of refcount table can count */
};

/* Few enough clusters that all can be read for each state, with 512 bytes two L2 tables. */
static uint64_t clusters_of(const Sample *s)
{
    if (has(s, TRAIT_TABLE_FULL))
        return TABLE_FULL_CLUSTERS;
    if (has(s, TRAIT_THOUSAND | TRAIT_LIMIT_LAST | TRAIT_LIMIT_NONE))
        return 8;
    switch (s->kind.cluster_bits) {
    case 9:
        return 100;
    case 12:
        return 24;
    case 14:
        return 12;
    case 16:
        return 6;
    default:
        return 3;
    }
}

QcGate *samples_make_base(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "base.raw", NULL);
    g_autofree char *bytes = g_malloc(BASE_BYTES);
    QcGate *gate;
    for (size_t i = 0; i < BASE_BYTES; i++)
        bytes[i] = (char)(i / 777);
    if (!g_file_set_contents(path, bytes, BASE_BYTES, NULL) ||
        qc_gate_new(dir, QC_BACKING_STORE, &gate, NULL) < 0)
        g_error("%s cannot be made", path);
    return gate;
}

static void must(const Sample *s, MemFile *file, Step c)
{
    bool unknown;
    int err = script_run(file, &c, &unknown);
    if (err < 0)
        g_error("%s: command %d: %s", s->kind.name, c.kind, g_strerror(-err));
}

/* Fill clusters a to b of the disk, less a little at both ends. */
static void fill(const Sample *s, MemFile *file, uint64_t a, uint64_t b, uint8_t seed)
{
    uint64_t from = (a << s->kind.cluster_bits) + 100, to = (b << s->kind.cluster_bits) - 100;
    must(s, file, (Step){.kind = STEP_WRITE, .offset = from, .len = to - from, .seed = seed});
}

static void take(const Sample *s, MemFile *file, const char *name)
{
    must(s, file, (Step){.kind = STEP_TAKE, .name = name});
}

static uint32_t table_clusters(const MemFile *file)
{
    QcDiskHeader h;
    memcpy(&h, file->data->data, sizeof(h));
    return be32_get(h.refcount_table_clusters);
}

/* Write until the next cluster that is written makes the refcount table grow. */
static void fill_table(const Sample *s, MemFile **file)
{
    uint64_t n = clusters_of(s), step = 256, at = n * 7 / 10;
    while (step > 0 && at < n) {
        MemFile *next = mem_file_copy(*file);
        fill(s, next, at, MIN(n, at + step), 9);
        bool grown = table_clusters(next) > table_clusters(*file);
        qc_file_unref(mem_file(grown ? next : *file));
        if (!grown)
            *file = next;
        at += grown ? 0 : step;
        step = grown ? step / 2 : step;
    }
    g_assert(at < n);
}

static void write_history(const Sample *s, MemFile *file)
{
    uint64_t n = clusters_of(s);
    if (has(s, TRAIT_RESIZED))
        craft_resize(file, n * 3 / 4 << s->kind.cluster_bits);
    fill(s, file, 0, n * 4 / 10 + 1, 1);
    if (has(s, TRAIT_COMPRESSED))
        craft_compress(file, 0, (unsigned)n * 3 / 10);
    if (has(s, TRAIT_SUBCLUSTERS))
        craft_subclusters(file, n * 3 / 10, (unsigned)n / 10);
    if (has(s, TRAIT_EMPTY))
        return;
    take(s, file, "old");
    if (has(s, TRAIT_RESIZED))
        craft_resize(file, n << s->kind.cluster_bits);
    fill(s, file, n * 3 / 10, n * 6 / 10 + 1, 2);
    take(s, file, "middle");
    fill(s, file, n / 10, n * 2 / 10 + 1, 3);
    if (s->kind.refcount_bits > 2)
        take(s, file, "new");
    fill(s, file, n * 5 / 10, n * 7 / 10, 4);
}

static void make_snapshots(const Sample *s, MemFile *file)
{
    if (has(s, TRAIT_SLOT_LAST))
        craft_snapshots(file, 5, 19, true); /* 88 bytes each, and then 72: 512 */
    else if (has(s, TRAIT_SLOT_NONE))
        craft_snapshots(file, 5, 20, true);
    else if (has(s, TRAIT_THOUSAND))
        craft_snapshots(file, 1000, 6, true);
    else if (has(s, TRAIT_LIMIT_LAST | TRAIT_LIMIT_NONE))
        craft_snapshots(file, QC_MAX_SNAPSHOTS - has(s, TRAIT_LIMIT_LAST), 6, false);
}

MemFile *sample_make(const Sample *s, QcGate *gate)
{
    bool backing = has(s, TRAIT_BACKING);
    QcCreateOptions options = {.virtual_size = clusters_of(s) << s->kind.cluster_bits,
                               .version = s->kind.version,
                               .cluster_bits = s->kind.cluster_bits,
                               .refcount_bits = s->kind.refcount_bits,
                               .extended_l2 = s->kind.extended_l2,
                               .backing_file = backing ? "base.raw" : NULL,
                               .backing_format = backing ? "raw" : NULL};
    MemFile *file = mem_file_new(NULL, 0);
    if (qc_create(mem_file(file), &options, NULL) < 0)
        g_error("%s cannot be made", s->kind.name);
    file->gate = backing ? gate : NULL;
    write_history(s, file);
    make_snapshots(s, file);
    if (has(s, TRAIT_TABLE_FULL))
        fill_table(s, &file);
    if (has(s, TRAIT_VM_STATE))
        craft_vm_state(file, 1, 2, true);
    if (has(s, TRAIT_BITMAP))
        craft_bitmap(file);
    if (has(s, TRAIT_LEAKS))
        craft_leaks(file, 3);
    if (has(s, TRAIT_LAZY | TRAIT_DIRTY))
        craft_lazy(file, has(s, TRAIT_DIRTY));
    return file;
}

/* ---- commands --------------------------------------------------------------------------- */

static unsigned snapshots_of(const Sample *s)
{
    if (has(s, TRAIT_EMPTY))
        return 0;
    if (has(s, TRAIT_SLOT_LAST | TRAIT_SLOT_NONE))
        return 5;
    if (has(s, TRAIT_THOUSAND))
        return 1000;
    if (has(s, TRAIT_LIMIT_LAST | TRAIT_LIMIT_NONE))
        return QC_MAX_SNAPSHOTS - has(s, TRAIT_LIMIT_LAST);
    return s->kind.refcount_bits > 2 ? 3 : 2;
}

static const char *const names[] = {
    "take",          "write",         "repair",        "revert oldest", "revert middle",
    "revert newest", "delete oldest", "delete middle", "delete newest", "rename",
};

unsigned sample_n_commands(const Sample *s)
{
    return has(s, TRAIT_EMPTY) ? 3 : G_N_ELEMENTS(names);
}

const char *sample_command_name(const Sample *s, unsigned i)
{
    (void)s;
    return names[i];
}

Step sample_command(const Sample *s, unsigned i)
{
    uint64_t cluster = UINT64_C(1) << s->kind.cluster_bits, n = clusters_of(s);
    unsigned last = MAX(snapshots_of(s), 1) - 1;
    const Step all[] = {
        {.kind = STEP_TAKE, .name = "fresh"},
        {.kind = STEP_WRITE, .offset = n / 3 * cluster + 9, .len = cluster * 3 / 2, .seed = 200},
        {.kind = STEP_REPAIR},
        {.kind = STEP_REVERT, .snapshot = 0},
        {.kind = STEP_REVERT, .snapshot = last / 2},
        {.kind = STEP_REVERT, .snapshot = last},
        {.kind = STEP_DELETE, .snapshot = 0},
        {.kind = STEP_DELETE, .snapshot = last / 2},
        {.kind = STEP_DELETE, .snapshot = last},
        {.kind = STEP_RENAME, .snapshot = last / 2, .name = "a name longer than the one before"},
    };
    G_STATIC_ASSERT(G_N_ELEMENTS(all) == G_N_ELEMENTS(names));
    return all[i];
}

MemFile *sample_make_for(const Sample *s, QcGate *gate, unsigned i)
{
    MemFile *file = sample_make(s, gate);
    if (sample_command(s, i).kind == STEP_REPAIR && !has(s, TRAIT_DIRTY | TRAIT_LEAKS))
        craft_leak(file);
    return file;
}

int sample_expected(const Sample *s, const Step *c)
{
    if (c->kind == STEP_TAKE && s->kind.refcount_bits == 1)
        return -EOPNOTSUPP;
    if (c->kind == STEP_TAKE && (s->kind.refcount_bits == 2 || has(s, TRAIT_LIMIT_NONE)))
        return -EFBIG;
    if ((c->kind == STEP_REVERT || c->kind == STEP_WRITE) && has(s, TRAIT_BITMAP))
        return -EOPNOTSUPP;
    if (c->kind == STEP_WRITE && has(s, TRAIT_DIRTY))
        return -EUCLEAN;
    return 0;
}
