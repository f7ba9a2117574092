/* tally.c - see tally.h. */
#include "tally.h"
#include "findings.h"
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
int qc_tally_init(QcTally *t, QcImage *image, const QcRefs *stored)
{
    *t = (QcTally){.stored = stored,
                   .memory_left = stored ? UINT64_MAX : COUNT_MEMORY + image->info.stat.allocated};
    return qc_refs_open(image, true, &t->refs);
}

void qc_tally_clear(QcTally *t)
{
    for (uint64_t i = 0; i < t->n_tables; i++)
        g_free(t->tables[i]);
    g_free(t->tables);
    qc_refs_free(t->refs);
    *t = (QcTally){0};
}

/* ---- counting --------------------------------------------------------------------------- */

/* Whether a cluster may be counted whose block takes memory. */
static int admit(QcTally *t, uint64_t cluster)
{
    const QcRefs *r = t->refs;
    const RefBlock *stored;
    uint64_t i = cluster >> r->block_bits, bytes = qc_cluster_size(r->layout);
    if (t->stored && (!(stored = block_of(t->stored, cluster)) || !stored->counts))
        return -ENODATA;
    if (i >= r->n_blocks)
        bytes += (i + 1 - r->n_blocks) * (sizeof(RefBlock) + sizeof(*t->tables));
    if (bytes > t->memory_left)
        return -E2BIG;
    t->memory_left -= bytes;
    return 0;
}

/* Have the block of a cluster. */
static inline int reach(QcTally *t, uint64_t cluster)
{
    const RefBlock *b = block_of(t->refs, cluster);
    if (b && b->counts)
        return 0;
    int err = admit(t, cluster);
    return err ? err : qc_refs_reach(t->refs, cluster);
}

static bool is_table(const QcTally *t, uint64_t block, uint64_t index)
{
    return block < t->n_tables && t->tables[block] && bit_get(t->tables[block], index);
}

/* Remember that a cluster, whose block is there, holds a table. */
static int set_table(QcTally *t, uint64_t block, uint64_t index)
{
    const QcRefs *r = t->refs;
    if (block >= t->n_tables) {
        uint8_t **grown = g_try_renew(uint8_t *, t->tables, r->room);
        if (!grown)
            return -ENOMEM;
        memset(grown + t->n_tables, 0, (r->room - t->n_tables) * sizeof(*grown));
        t->tables = grown;
        t->n_tables = r->room;
    }
    if (!t->tables[block])
        t->tables[block] = g_try_malloc0(bits_size(r));
    if (!t->tables[block])
        return -ENOMEM;
    bit_set(t->tables[block], index);
    return 0;
}

static int count_one(QcTally *t, uint64_t block, uint64_t index, uint64_t times, QcRefKind kind)
{
    const QcRefs *r = t->refs;
    RefBlock *b = &r->blocks[block];
    uint64_t count = qc_refcount_get(b->counts, r->order, index);
    if (is_table(t, block, index) || (kind == QC_REF_TABLE && count > 0))
        return -EEXIST;
    int err = kind == QC_REF_TABLE ? set_table(t, block, index) : 0;
    if (err < 0)
        return err;
    if (times > qc_refcount_max(r->order) - count)
        return -EFBIG;
    if (!bit_get(b->busy, index))
        set_busy(b, index);
    set_count(r, b, index, count + times);
    return 0;
}

/* Clusters of one block. *counted: one more for each that was counted. */
static int count_run(QcTally *t, uint64_t first, uint64_t count, uint64_t times, QcRefKind kind,
                     uint64_t *counted)
{
    uint64_t block = first >> t->refs->block_bits, index = index_of(t->refs, first);
    int err = reach(t, first);
    for (uint64_t i = 0; i < count && !err; i++) {
        err = count_one(t, block, index + i, times, kind);
        *counted += err == 0;
    }
    return err;
}

int qc_tally_count(QcTally *t, uint64_t first, uint64_t count, uint64_t times, QcRefKind kind,
                   uint64_t *ret_counted)
{
    const QcRefs *r = t->refs;
    uint64_t in_file = qc_clusters_for(r->layout, r->image->info.stat.size);
    uint64_t limit = MIN(in_file, r->max_clusters), counted = 0;
    int err = first >= limit || count > limit - first ? -EUCLEAN : 0;
    for (uint64_t run; count > 0 && !err; first += run, count -= run) {
        run = MIN(count, counts_per_block(r) - index_of(r, first));
        err = count_run(t, first, run, times, kind, &counted);
    }
    if (ret_counted)
        *ret_counted = counted;
    return err;
}

/* ---- what was counted ------------------------------------------------------------------- */

/* Called for each cluster whose count differs. */
typedef void (*Differ)(void *data, uint64_t cluster, uint64_t stored, uint64_t counted);

static void compare_run(const QcRefs *stored, const QcRefs *counted, uint64_t first, Differ func,
                        void *data)
{
    for (uint64_t c = first; c < first + QC_REF_RUN; c++) {
        uint64_t x = qc_refs_get(stored, c), y = qc_refs_get(counted, c);
        if (x != y)
            func(data, c, x, y);
    }
}

static void compare(const QcRefs *stored, const QcRefs *counted, Differ func, void *data)
{
    for (uint64_t i = 0; i < MAX(stored->n_blocks, counted->n_blocks); i++) {
        const uint8_t *x = i < stored->n_blocks ? stored->blocks[i].counts : NULL;
        const uint8_t *y = i < counted->n_blocks ? counted->blocks[i].counts : NULL;
        for (uint64_t at = 0; (x || y) && at < counts_per_block(stored); at += QC_REF_RUN)
            if (!qc_refs_same_run(stored, x, y, at))
                compare_run(stored, counted, (i << stored->block_bits) + at, func, data);
    }
}

static void report_count(void *data, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    QcCheck *findings = data;
    if (stored > counted)
        findings->leaks++;
    else
        qc_find(findings,
                "cluster %" G_GUINT64_FORMAT " has the refcount %" G_GUINT64_FORMAT
                ", and is referred to %" G_GUINT64_FORMAT " times",
                cluster, stored, counted);
}

void qc_tally_compare(const QcRefs *stored, const QcRefs *counted, QcCheck *findings)
{
    compare(stored, counted, report_count, findings);
}

static void adopt_count(void *data, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    QcRefs *r = data;
    uint64_t i = cluster >> r->block_bits;
    (void)stored;
    set_count(r, &r->blocks[i], index_of(r, cluster), counted);
    qc_refs_touch(r, i);
}

void qc_tally_adopt(QcRefs *stored, const QcRefs *counted)
{
    compare(stored, counted, adopt_count, stored);
}

int qc_tally_renew(QcRefs *r)
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
