/*
 * tally.c - counting references into a model of refcounts; see refs.h.
 *
 * A model that is counted starts without counts and takes memory as clusters are found to be
 * referred to, no more than the image can ask for with what it really holds.
 */
#include "refblocks.h"

enum {
    /* Counting starts with that much memory, whatever the file holds. */
    COUNT_MEMORY = 64 << 20,
};

/*
 * Where nothing is stored that could be believed, memory is bounded by what the file really
 * holds: a cluster in use has bytes of its own, in a row with others, or at least an L2 entry
 * and a refcount. Only in an image made to be a burden each has a block for itself.
 */
int qc_refs_new(QcImage *image, const QcRefs *stored, QcRefs **ret)
{
    QcRefs *r;
    int err = qc_refs_open(image, true, &r);
    if (err < 0)
        return err;
    r->stored = stored;
    r->memory_left = stored ? UINT64_MAX : COUNT_MEMORY + image->info.stat.allocated;
    *ret = r;
    return 0;
}

/* Whether a cluster may be counted, for the memory that it takes. */
static int admit(QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster), *stored;
    uint64_t i = cluster >> r->block_bits, bytes = qc_cluster_size(r->layout);
    if (b && b->counts)
        return 0;
    if (r->stored && (!(stored = block_of(r->stored, cluster)) || !stored->counts))
        return -ENODATA;
    if (i >= r->n_blocks)
        bytes += (i + 1 - r->n_blocks) * sizeof(RefBlock);
    if (bytes > r->memory_left)
        return -E2BIG;
    r->memory_left -= bytes;
    return 0;
}

/* Whether a cluster may be counted as that kind; remembers those that hold a table. */
static int admit_kind(QcRefs *r, RefBlock *b, uint64_t i, QcRefKind kind)
{
    bool is_table = b->tables && bit_get(b->tables, i);
    if (is_table || (kind == QC_REF_TABLE && qc_refcount_get(b->counts, r->order, i) > 0))
        return -EEXIST;
    if (kind == QC_REF_DATA)
        return 0;
    if (!b->tables)
        b->tables = g_try_malloc0((counts_per_block(r) + 7) / 8);
    if (!b->tables)
        return -ENOMEM;
    bit_set(b->tables, i);
    return 0;
}

static int count_one(QcRefs *r, RefBlock *b, uint64_t i, uint64_t times, QcRefKind kind)
{
    uint64_t count = qc_refcount_get(b->counts, r->order, i);
    int err = admit_kind(r, b, i, kind);
    if (err < 0)
        return err;
    if (times > qc_refcount_max(r->order) - count)
        return -EFBIG;
    if (!bit_get(b->busy, i))
        qc_refs_set_busy(b, i);
    qc_refs_set_count(r, b, i, count + times);
    return 0;
}

/* Clusters of one block. */
static int count_run(QcRefs *r, uint64_t first, uint64_t count, uint64_t times, QcRefKind kind)
{
    int err = admit(r, first);
    if (!err)
        err = qc_refs_reach(r, first);
    for (uint64_t i = 0; i < count && !err; i++)
        err = count_one(r, block_of(r, first), index_of(r, first) + i, times, kind);
    return err;
}

int qc_refs_count(QcRefs *r, uint64_t first, uint64_t count, uint64_t times, QcRefKind kind)
{
    uint64_t in_file = qc_clusters_for(r->layout, r->image->info.stat.size);
    uint64_t limit = MIN(in_file, r->max_clusters);
    if (first >= limit || count > limit - first)
        return -EUCLEAN;
    int err = 0;
    for (uint64_t run; count > 0 && !err; first += run, count -= run) {
        run = MIN(count, counts_per_block(r) - index_of(r, first));
        err = count_run(r, first, run, times, kind);
    }
    return err;
}

int qc_refs_renew_all(QcRefs *r)
{
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        RefBlock *b = &r->blocks[i];
        if (b->counts)
            qc_refs_touch(r, i);
        if (b->counts || !b->offset)
            continue;
        int err = qc_refs_add(r, b->offset >> r->layout->cluster_bits, 1, -1);
        if (err < 0)
            return err;
        b->offset = 0;
    }
    return 0;
}

static void adopt_count(void *data, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    QcRefs *r = data;
    uint64_t i = cluster >> r->block_bits;
    (void)stored;
    qc_refs_set_count(r, &r->blocks[i], index_of(r, cluster), counted);
    qc_refs_touch(r, i);
}

void qc_refs_adopt(QcRefs *refs, const QcRefs *counted)
{
    qc_refs_compare(refs, counted, adopt_count, refs);
}

static void compare_run(const QcRefs *a, const QcRefs *b, uint64_t first, QcRefsDiffer func,
                        void *data)
{
    for (uint64_t c = first; c < first + QC_REF_RUN; c++) {
        uint64_t x = qc_refs_get(a, c), y = qc_refs_get(b, c);
        if (x != y)
            func(data, c, x, y);
    }
}

void qc_refs_compare(const QcRefs *a, const QcRefs *b, QcRefsDiffer func, void *data)
{
    for (uint64_t i = 0; i < MAX(a->n_blocks, b->n_blocks); i++) {
        const uint8_t *x = i < a->n_blocks ? a->blocks[i].counts : NULL;
        const uint8_t *y = i < b->n_blocks ? b->blocks[i].counts : NULL;
        for (uint64_t first = 0; (x || y) && first < counts_per_block(a); first += QC_REF_RUN)
            if (!qc_refs_same_run(a, x, y, first))
                compare_run(a, b, (i << a->block_bits) + first, func, data);
    }
}
