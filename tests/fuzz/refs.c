/*
 * Fuzz target: refcounts. The input is a geometry, a list of operations, and the file from its
 * second cluster on, where the refcount table starts. The operations run on the model of
 * refs.c beside a plain array; in the end the model is written, loaded again, and compared.
 */
#include "refs.h"
#include "fuzz.h"
#include "memfile.h"
#include <errno.h>
#include <string.h>

enum {
    WATCHED = 2048, /* clusters that are compared */
    MAX_OPS = 32,
};

typedef struct Game {
    MemFile *file;
    QcRefs *refs;
    unsigned order, cluster_bits;
    uint64_t count[WATCHED]; /* as the model should have it */
    bool used[WATCHED];      /* when loaded */
    bool given[WATCHED];
    bool dropped; /* a count fell to 0; it may have been that of a refcount block */
} Game;

static QcDiskHeader header_of(FuzzBytes *in)
{
    unsigned bits = QC_MIN_CLUSTER_BITS + (unsigned)(fuzz_take(in, 1) % 4);
    uint32_t order = (uint32_t)(fuzz_take(in, 1) % 7);
    uint32_t table_clusters = 1 + (uint32_t)(fuzz_take(in, 1) % 3);
    QcDiskHeader d = {
        .magic = be32_make(QCOW_MAGIC),
        .version = be32_make(3),
        .cluster_bits = be32_make(bits),
        .refcount_order = be32_make(order),
        .refcount_table_offset = be64_make(UINT64_C(1) << bits),
        .refcount_table_clusters = be32_make(table_clusters),
        .header_length = be32_make(sizeof(d)),
    };
    return d;
}

static MemFile *make_file(const QcDiskHeader *d, const FuzzBytes *in)
{
    uint64_t cluster = UINT64_C(1) << be32_get(d->cluster_bits);
    g_autofree uint8_t *bytes = g_malloc0(cluster + in->left);
    memcpy(bytes, d, sizeof(*d));
    if (in->left)
        memcpy(bytes + cluster, in->at, in->left);
    MemFile *file = mem_file_new(bytes, cluster + in->left);
    file->max_size = 32 << 20;
    return file;
}

static int open_refs(MemFile *file, QcCache *cache, QcImage **ret_image, QcRefs **ret)
{
    g_autoptr(GError) error = NULL;
    int err = qc_image_open(mem_file(file), "fuzz", QC_FORMAT_QCOW2, cache, ret_image, NULL);
    fuzz_require(err == 0, "%d", err);
    err = qc_refs_load(*ret_image, &(QcMeter){0}, ret, &error);
    fuzz_check_error(err, error);
    return err;
}

/* Add to the counts. Where the engine refuses, the array says why. */
static int play_add(Game *g, uint64_t first, uint64_t n, int delta)
{
    int err = qc_refs_add(g->refs, first, n, delta), expected = 0;
    for (uint64_t c = first; c < first + n && !expected && c < WATCHED; c++) {
        if (!g->used[c] && !g->given[c])
            expected = -EUCLEAN;
        else if (delta < 0 && g->count[c] == 0)
            expected = -EUCLEAN;
        else if (delta > 0 &&
                 g->count[c] ==
                     (g->order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << g->order)) - 1))
            expected = -EFBIG;
        else
            g->count[c] += (uint64_t)delta;
        g->dropped = g->dropped || g->count[c] == 0;
    }
    if (first + n <= WATCHED)
        fuzz_require(err == expected, "%d instead of %d", err, expected);
    return err;
}

static int play_alloc(Game *g, uint64_t n)
{
    uint64_t first;
    int err = qc_refs_alloc(g->refs, n, 1, &first);
    fuzz_require(err == 0 || err == -EFBIG, "%d", err);
    for (uint64_t c = first; !err && c < first + n; c++) {
        fuzz_require(qc_refs_get(g->refs, c) == 1);
        if (c >= WATCHED)
            continue;
        fuzz_require(!g->used[c] && !g->given[c], "cluster %d is in use", (int)c);
        g->given[c] = true;
        g->count[c] = 1;
    }
    return err;
}

static int play_use(Game *g, uint64_t cluster)
{
    QcRefUse use;
    int err = qc_refs_use(g->refs, cluster, &use);
    fuzz_require(err || use == MIN(g->count[cluster], 2));
    uint64_t same = qc_refs_same_use(g->refs, cluster, WATCHED - cluster, &use);
    for (uint64_t c = cluster; c < cluster + same; c++)
        fuzz_require(use == MIN(g->count[c], 2));
    fuzz_require(cluster + same == WATCHED || use != MIN(g->count[cluster + same], 2));
    return err;
}

static int play(Game *g, FuzzBytes *in)
{
    uint64_t what = fuzz_take(in, 1), first = fuzz_take(in, 2) % WATCHED;
    uint64_t n = 1 + (what >> 2) % 16;
    switch (what & 3) {
    case 0:
        return play_add(g, first, n, 1);
    case 1:
        return play_add(g, first, n, -1);
    case 2:
        return play_alloc(g, n);
    default:
        return play_use(g, first);
    }
}

static int put(void *data, uint64_t offset, const void *bytes, size_t len)
{
    Game *g = data;
    uint64_t cluster = UINT64_C(1) << g->cluster_bits;
    fuzz_require(offset % cluster == 0 && len % cluster == 0 && len > 0);
    for (uint64_t c = offset / cluster; c < (offset + len) / cluster; c++) {
        fuzz_require(qc_refs_get(g->refs, c) > 0, "not counted");
        fuzz_require(c >= WATCHED || !g->used[c], "written in place");
    }
    return qc_file_write(mem_file(g->file), bytes, len, offset);
}

/* Whether a refcount block lies in the refcount table: when the table goes, so does the block. */
static bool block_in_table(const MemFile *file, const QcDiskHeader *d)
{
    uint64_t at = be64_get(d->refcount_table_offset);
    uint64_t len = (uint64_t)be32_get(d->refcount_table_clusters) << be32_get(d->cluster_bits);
    for (uint64_t i = 0; i < len; i += sizeof(be64)) {
        be64 word;
        memcpy(&word, file->data->data + at + i, sizeof(word));
        if (be64_get(word) >= at && be64_get(word) - at < len)
            return true;
    }
    return false;
}

/* Write what the model says, load it again, compare. */
static void check_written(Game *g, QcDiskHeader d, QcCache *cache)
{
    uint64_t offset;
    uint32_t clusters;
    if (qc_refs_place(g->refs, &offset, &clusters) < 0 || qc_refs_write(g->refs, put, g) < 0)
        return;
    d.refcount_table_offset = be64_make(offset);
    d.refcount_table_clusters = be32_make(clusters);
    memcpy(g->file->data->data, &d, sizeof(d));

    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcRefs) again = NULL;
    int err = open_refs(g->file, cache, &image, &again);
    fuzz_require(err == 0 || g->dropped, "%d", err);
    for (uint64_t c = 0; !err && c < WATCHED; c++)
        fuzz_require(qc_refs_get(again, c) == qc_refs_get(g->refs, c), "cluster %d", (int)c);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    QcDiskHeader d = header_of(&in);
    bool sparse = fuzz_take(&in, 1) & 1;
    unsigned ops = (unsigned)(fuzz_take(&in, 1) % MAX_OPS);
    FuzzBytes moves = {in.at, MIN(in.left, ops * 3)};
    in.at += moves.left;
    in.left -= moves.left;

    g_autoptr(QcCache) cache = qc_cache_new(1 << 20);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcRefs) refs = NULL;
    g_autofree Game *g = g_new0(Game, 1);
    g->file = make_file(&d, &in);
    g->file->sparse = sparse;
    int err = open_refs(g->file, cache, &image, &refs);
    g->refs = refs;
    g->order = be32_get(d.refcount_order);
    g->cluster_bits = be32_get(d.cluster_bits);
    for (uint64_t c = 0; !err && c < WATCHED; c++) {
        g->count[c] = qc_refs_get(refs, c);
        g->used[c] = g->count[c] > 0;
    }
    g->dropped = !err && block_in_table(g->file, &d);
    while (!err && moves.left > 0)
        err = play(g, &moves);
    for (uint64_t c = 0; !err && c < WATCHED; c++)
        fuzz_require(qc_refs_get(refs, c) == g->count[c], "cluster %d", (int)c);
    if (!err)
        check_written(g, d, cache);
    qc_file_unref(mem_file(g->file));
}
