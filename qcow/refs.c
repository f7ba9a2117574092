/*
 * refs.c - see refs.h.
 *
 * One RefBlock for each entry of the refcount table. counts is the block as it lies on disk
 * (NULL: all zero, or no block on disk); busy has a bit for each cluster that must not be
 * given out: it was in use when the model was loaded, or has been given out since. A block
 * that changed has to move; moving takes a cluster, whose count changes another block, and
 * so on, until no block is left that changed and has no new place. That ends, because every
 * round either places a block or stops.
 */
#include "refs.h"
#include "batch.h"
#include "error.h"
#include "refcodec.h"
#include <sys/stat.h>

/* Counts that are looked at together, as most of a block is nothing. The smallest block, 512
 * bytes of 64-bit counts, has so many. */
#define RUN 64

typedef struct RefBlock {
    uint64_t offset;     /* on disk; 0 when there is none */
    uint64_t new_offset; /* where it is to be; 0 while it has not moved */
    uint8_t *counts;
    uint8_t *loaded;   /* counts before the first change; NULL: unchanged */
    uint8_t *busy;     /* a bit for each cluster; NULL: none */
    uint8_t *reserved; /* a bit for each cluster; NULL: none */
    uint32_t n_busy;
    bool dirty;
} RefBlock;

struct QcRefs {
    QcImage *image;
    const QcLayout *layout;
    unsigned order;
    unsigned block_bits; /* log2 of the counts in a block */
    RefBlock *blocks;
    uint64_t n_blocks; /* up to the last one in use: the rest of the table is not even touched */
    uint64_t room;
    uint64_t max_clusters; /* what the file may grow to */
    bool device;           /* it cannot grow at all: max_clusters is its capacity */
    uint64_t next_free;    /* no single cluster is free before this one */
    uint64_t table_offset; /* the new table; 0 until placed */
    uint64_t table_clusters;
};

/* ---- loading ---------------------------------------------------------------------------- */

static uint64_t counts_per_block(const QcRefs *r)
{
    return UINT64_C(1) << r->block_bits;
}

static int make_counts(QcRefs *r, RefBlock *b)
{
    if (!b->counts)
        b->counts = g_try_malloc0(qc_cluster_size(r->layout));
    if (!b->busy)
        b->busy = g_try_malloc0((counts_per_block(r) + 7) / 8);
    return b->counts && b->busy ? 0 : -ENOMEM;
}

static void set_busy(RefBlock *b, uint64_t index)
{
    b->busy[index / 8] |= (uint8_t)(1u << (index % 8));
    b->n_busy++;
}

/* Whether two blocks have the same counts in a run; NULL is a block without any. */
static bool same_run(const QcRefs *r, const uint8_t *a, const uint8_t *b, uint64_t first)
{
    static const uint8_t zeros[RUN * sizeof(uint64_t)];
    size_t at = (first << r->order) / 8, len = ((size_t)RUN << r->order) / 8;
    return memcmp(a ? a + at : zeros, b ? b + at : zeros, len) == 0;
}

static void set_run_busy(const QcRefs *r, RefBlock *b, uint64_t first)
{
    for (uint64_t i = first; i < first + RUN; i++)
        if (qc_refcount_get(b->counts, r->order, i) != 0)
            set_busy(b, i);
}

static int load_block(void *data, const QcBatchItem *item, uint8_t *cluster)
{
    QcRefs *r = data;
    RefBlock *b = &r->blocks[item->tag];
    if (!cluster) /* a hole: costs no memory either, or a sparse file could ask for any amount */
        return 0;
    int err = make_counts(r, b);
    if (err < 0)
        return err;
    memcpy(b->counts, cluster, qc_cluster_size(r->layout));
    for (uint64_t first = 0; first < counts_per_block(r); first += RUN)
        if (!same_run(r, b->counts, NULL, first))
            set_run_busy(r, b, first);
    return 0;
}

/* Whether a refcount block may lie there at all. */
static bool valid_block(const QcRefs *r, uint64_t offset)
{
    return !(offset & ~QC_OFFSET_MASK) && qc_cluster_aligned(r->layout, offset);
}

/* Read the table. Entries that cannot be right: skipped when lenient, else -EUCLEAN. */
static int load_table(QcRefs *r, bool lenient)
{
    const QcHeader *h = &r->image->header;
    size_t bytes = (size_t)h->reftable_clusters << r->layout->cluster_bits;
    uint64_t n = bytes / sizeof(be64);
    g_autofree be64 *table = g_try_malloc0(bytes);
    r->blocks = g_try_new0(RefBlock, n);
    if (!table || !r->blocks)
        return -ENOMEM;
    r->room = n;
    int err = qc_file_read(r->image->file, table, bytes, h->reftable_offset);
    if (err == -ENODATA && lenient)
        err = 0;
    if (err < 0)
        return err == -ENODATA ? -EUCLEAN : err;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t offset = be64_get(table[i]);
        if (!valid_block(r, offset) || (lenient && offset >= r->image->info.stat.size)) {
            if (!lenient)
                return -EUCLEAN;
            continue;
        }
        r->blocks[i].offset = offset;
        if (offset)
            r->n_blocks = i + 1;
    }
    return 0;
}

static int load_blocks(QcRefs *r)
{
    g_autofree QcBatchItem *items = g_try_new(QcBatchItem, r->n_blocks);
    size_t n = 0;
    if (!items)
        return -ENOMEM;
    for (uint64_t i = 0; i < r->n_blocks; i++)
        if (r->blocks[i].offset)
            items[n++] = (QcBatchItem){.offset = r->blocks[i].offset, .tag = (uint32_t)i};
    return qc_batch_read(r->image->file, qc_cluster_size(r->layout), items, n, load_block, r);
}

/* A block whose own count is 0 could be given out and written over. */
static bool blocks_are_used(const QcRefs *r)
{
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        uint64_t offset = r->blocks[i].offset;
        if (offset && !qc_refs_all_used(r, offset >> r->layout->cluster_bits, 1))
            return false;
    }
    return true;
}

static int reserve_blocks(QcRefs *r)
{
    int err = 0;
    for (uint64_t i = 0; i < r->n_blocks && !err; i++)
        if (r->blocks[i].offset)
            err = qc_refs_reserve(r, r->blocks[i].offset >> r->layout->cluster_bits, 1);
    return err;
}

static void set_limits(QcRefs *r)
{
    const QcFileStat *st = &r->image->info.stat;
    uint64_t table_max = QC_MAX_REFCOUNT_TABLE_BYTES / sizeof(be64) << r->block_bits;
    uint64_t offset_max = UINT64_C(1) << (56 - r->layout->cluster_bits);
    r->max_clusters = MIN(table_max, offset_max);
    r->device = S_ISBLK(st->mode);
    if (r->device)
        r->max_clusters = MIN(r->max_clusters, st->size >> r->layout->cluster_bits);
}

static QcRefs *refs_new(QcImage *image)
{
    QcRefs *r = g_new0(QcRefs, 1);
    r->image = image;
    r->layout = &image->header.layout;
    r->order = r->layout->refcount_order;
    r->block_bits = r->layout->cluster_bits + 3 - r->order;
    set_limits(r);
    return r;
}

int qc_refs_load(QcImage *image, QcRefs **ret, GError **error)
{
    g_autoptr(QcRefs) r = refs_new(image);
    int err = load_table(r, false);
    if (!err)
        err = load_blocks(r);
    if (!err && !blocks_are_used(r))
        err = -EUCLEAN;
    if (!err)
        err = reserve_blocks(r);
    if (err == -EUCLEAN)
        return qc_fail(error, err,
                       "the refcount table points outside the file, twice at a block, or at one "
                       "that is counted as free");
    if (err < 0)
        return qc_fail(error, err, "the refcounts cannot be read: %s", g_strerror(-err));
    *ret = g_steal_pointer(&r);
    return 0;
}

int qc_refs_new(QcImage *image, QcRefs **ret)
{
    g_autoptr(QcRefs) r = refs_new(image);
    int err = load_table(r, true);
    if (!err)
        *ret = g_steal_pointer(&r);
    return err;
}

void qc_refs_free(QcRefs *r)
{
    if (!r)
        return;
    for (uint64_t i = 0; r->blocks && i < r->n_blocks; i++) {
        g_free(r->blocks[i].counts);
        g_free(r->blocks[i].loaded);
        g_free(r->blocks[i].busy);
        g_free(r->blocks[i].reserved);
    }
    g_free(r->blocks);
    g_free(r);
}

/* ---- counts ----------------------------------------------------------------------------- */

/* The block of a cluster, or NULL when the table does not reach so far. */
static RefBlock *block_of(const QcRefs *r, uint64_t cluster)
{
    uint64_t i = cluster >> r->block_bits;
    return i < r->n_blocks ? &r->blocks[i] : NULL;
}

static uint64_t index_of(const QcRefs *r, uint64_t cluster)
{
    return cluster & (counts_per_block(r) - 1);
}

static bool is_busy(const QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster);
    return b && b->busy && (b->busy[i / 8] >> (i % 8) & 1);
}

uint64_t qc_refs_get(const QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster);
    return b && b->counts ? qc_refcount_get(b->counts, r->order, index_of(r, cluster)) : 0;
}

bool qc_refs_all_used(const QcRefs *r, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!is_busy(r, first + i))
            return false;
    return true;
}

static int add_one(QcRefs *r, uint64_t cluster, int delta)
{
    if (!is_busy(r, cluster))
        return -EUCLEAN;
    RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster), count = qc_refcount_get(b->counts, r->order, i);
    if (delta < 0 && count == 0)
        return -EUCLEAN;
    if (delta > 0 && count == qc_refcount_max(r->order))
        return -EFBIG;
    qc_refcount_set(b->counts, r->order, i, delta > 0 ? count + 1 : count - 1);
    b->dirty = true;
    return 0;
}

int qc_refs_reserve(QcRefs *r, uint64_t first, uint64_t count)
{
    for (uint64_t c = first; c < first + count; c++) {
        RefBlock *b = block_of(r, c);
        if (!b->reserved)
            b->reserved = g_try_malloc0((counts_per_block(r) + 7) / 8);
        if (!b->reserved)
            return -ENOMEM;
        b->reserved[index_of(r, c) / 8] |= (uint8_t)(1u << (index_of(r, c) % 8));
    }
    return 0;
}

static bool is_reserved(const QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster);
    return b && b->reserved && (b->reserved[i / 8] >> (i % 8) & 1);
}

/* Remember the counts of a block before they change. */
static int keep_loaded(const QcRefs *r, RefBlock *b)
{
    if (b->loaded)
        return 0;
    b->loaded = g_try_malloc(qc_cluster_size(r->layout));
    if (!b->loaded)
        return -ENOMEM;
    memcpy(b->loaded, b->counts, qc_cluster_size(r->layout));
    return 0;
}

/*
 * One reference of a tree. To add a tree's references to counts that hold them already at most
 * doubles a count: a sound cluster is counted at least as often as any tree refers to it.
 */
static int refer_one(QcRefs *r, uint64_t cluster, int delta)
{
    if (!is_busy(r, cluster) || is_reserved(r, cluster))
        return -EUCLEAN;
    RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster);
    int err = keep_loaded(r, b);
    if (err < 0 || delta == 0)
        return err;
    if (delta > 0 &&
        qc_refcount_get(b->counts, r->order, i) / 2 >= qc_refcount_get(b->loaded, r->order, i))
        return -EUCLEAN;
    return add_one(r, cluster, delta);
}

int qc_refs_refer(QcRefs *r, uint64_t first, uint64_t count, int delta)
{
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++)
        err = refer_one(r, first + i, delta);
    return err;
}

int qc_refs_add(QcRefs *r, uint64_t first, uint64_t count, int delta)
{
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++)
        err = add_one(r, first + i, delta);
    return err;
}

/* ---- giving out clusters ---------------------------------------------------------------- */

/* Have blocks up to the one of cluster, with counts. */
static int reach(QcRefs *r, uint64_t cluster)
{
    uint64_t need = (cluster >> r->block_bits) + 1;
    if (need > r->room) {
        uint64_t room = MAX(need, r->room + r->room / 2);
        RefBlock *grown = g_try_renew(RefBlock, r->blocks, room);
        if (!grown)
            return -ENOMEM;
        r->blocks = grown;
        r->room = room;
    }
    if (need > r->n_blocks) {
        memset(r->blocks + r->n_blocks, 0, (need - r->n_blocks) * sizeof(RefBlock));
        r->n_blocks = need;
    }
    return make_counts(r, block_of(r, cluster));
}

static int count_one(QcRefs *r, uint64_t cluster, uint64_t times)
{
    int err = reach(r, cluster);
    if (err < 0)
        return err;
    RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster), count = qc_refcount_get(b->counts, r->order, i);
    if (times > qc_refcount_max(r->order) - count)
        return -EFBIG;
    if (!is_busy(r, cluster))
        set_busy(b, i);
    qc_refcount_set(b->counts, r->order, i, count + times);
    return 0;
}

int qc_refs_count(QcRefs *r, uint64_t first, uint64_t count, uint64_t times)
{
    uint64_t in_file = qc_clusters_for(r->layout, r->image->info.stat.size);
    uint64_t limit = MIN(in_file, r->max_clusters);
    if (first >= limit || count > limit - first)
        return -EUCLEAN;
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++)
        err = count_one(r, first + i, times);
    return err;
}

int qc_refs_renew_all(QcRefs *r)
{
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        RefBlock *b = &r->blocks[i];
        b->dirty = b->counts != NULL;
        if (b->counts || !b->offset)
            continue;
        int err = qc_refs_add(r, b->offset >> r->layout->cluster_bits, 1, -1);
        if (err < 0)
            return err;
        b->offset = 0;
    }
    return 0;
}

static void compare_run(const QcRefs *a, const QcRefs *b, uint64_t first, QcRefsDiffer func,
                        void *data)
{
    for (uint64_t c = first; c < first + RUN; c++) {
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
        for (uint64_t first = 0; (x || y) && first < counts_per_block(a); first += RUN)
            if (!same_run(a, x, y, first))
                compare_run(a, b, (i << a->block_bits) + first, func, data);
    }
}

static int give_out(QcRefs *r, uint64_t first, uint64_t count, uint64_t value)
{
    for (uint64_t c = first; c < first + count; c++) {
        int err = reach(r, c);
        if (err < 0)
            return err;
        RefBlock *b = block_of(r, c);
        set_busy(b, index_of(r, c));
        qc_refcount_set(b->counts, r->order, index_of(r, c), value);
        b->dirty = true;
    }
    return 0;
}

/* The first cluster of the first free run of count clusters at or after from. */
static uint64_t find_run(const QcRefs *r, uint64_t from, uint64_t count)
{
    uint64_t run = 0, c = from;
    while (run < count && c < r->max_clusters) {
        const RefBlock *b = block_of(r, c);
        if (!b)
            return c - run; /* everything from here on is free */
        if (b->n_busy == counts_per_block(r)) {
            run = 0;
            c = ((c >> r->block_bits) + 1) << r->block_bits;
            continue;
        }
        run = is_busy(r, c) ? 0 : run + 1;
        c++;
    }
    return c - run;
}

int qc_refs_alloc(QcRefs *r, uint64_t count, uint64_t value, uint64_t *ret_first)
{
    uint64_t first = find_run(r, r->next_free, count);
    if (first > r->max_clusters || count > r->max_clusters - first)
        return r->device ? -ENOSPC : -EFBIG;
    int err = give_out(r, first, count, value);
    if (err < 0)
        return err;
    if (count == 1)
        r->next_free = first + 1;
    *ret_first = first;
    return 0;
}

/* ---- writing ---------------------------------------------------------------------------- */

/* Give every block that changed and has not moved a new place. 1 when one moved, 0 if none. */
static int move_blocks(QcRefs *r)
{
    int moved = 0;
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        if (!r->blocks[i].dirty || r->blocks[i].new_offset)
            continue;
        uint64_t cluster;
        int err = make_counts(r, &r->blocks[i]); /* of one that is written only to be renewed */
        if (!err)
            err = qc_refs_alloc(r, 1, 1, &cluster);
        if (!err && r->blocks[i].offset)
            err = qc_refs_add(r, r->blocks[i].offset >> r->layout->cluster_bits, 1, -1);
        if (err < 0)
            return err;
        r->blocks[i].new_offset = cluster << r->layout->cluster_bits;
        moved = 1;
    }
    return moved;
}

static uint64_t table_clusters_needed(const QcRefs *r)
{
    return MAX(1, qc_clusters_for(r->layout, r->n_blocks * sizeof(be64)));
}

/* A place for the table. A place that turned out too small is dropped: nobody wrote to it,
 * but it stays busy, so that it is not asked about again. */
static int place_table(QcRefs *r)
{
    uint64_t first, old = r->table_offset >> r->layout->cluster_bits;
    if (r->table_offset) {
        int err = qc_refs_add(r, old, r->table_clusters, -1);
        if (err < 0)
            return err;
    }
    r->table_clusters = table_clusters_needed(r);
    if (r->table_clusters << r->layout->cluster_bits > QC_MAX_REFCOUNT_TABLE_BYTES)
        return -EFBIG;
    int err = qc_refs_alloc(r, r->table_clusters, 1, &first);
    if (!err)
        r->table_offset = first << r->layout->cluster_bits;
    return err;
}

int qc_refs_place(QcRefs *r, uint64_t *ret_table_offset, uint32_t *ret_table_clusters)
{
    const QcHeader *h = &r->image->header;
    int err =
        qc_refs_add(r, h->reftable_offset >> r->layout->cluster_bits, h->reftable_clusters, -1);
    int more = 1;
    while (!err && more) {
        if (r->table_offset == 0 || r->table_clusters < table_clusters_needed(r))
            err = place_table(r);
        if (!err)
            more = move_blocks(r);
        if (!err && more < 0)
            err = more;
        if (!err && r->table_clusters < table_clusters_needed(r))
            more = 1;
    }
    if (err < 0)
        return err;
    *ret_table_offset = r->table_offset;
    *ret_table_clusters = (uint32_t)r->table_clusters;
    return 0;
}

static int write_table(QcRefs *r, QcRefsPut put, void *data)
{
    size_t bytes = (size_t)r->table_clusters << r->layout->cluster_bits;
    g_autofree be64 *table = g_try_malloc0(bytes);
    if (!table)
        return -ENOMEM;
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        const RefBlock *b = &r->blocks[i];
        table[i] = be64_make(b->new_offset ? b->new_offset : b->offset);
    }
    return put(data, r->table_offset, table, bytes);
}

int qc_refs_write(QcRefs *r, QcRefsPut put, void *data)
{
    int err = 0;
    for (uint64_t i = 0; i < r->n_blocks && !err; i++)
        if (r->blocks[i].new_offset)
            err =
                put(data, r->blocks[i].new_offset, r->blocks[i].counts, qc_cluster_size(r->layout));
    return err ? err : write_table(r, put, data);
}
