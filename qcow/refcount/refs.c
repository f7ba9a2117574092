/*
 * refs.c - see refs.h.
 *
 * One RefBlock for each entry of the refcount table. counts is the block as it lies on disk
 * (NULL: all zero, or no block on disk); busy has a bit for each cluster that must not be
 * given out: it was in use when the model was loaded, or has been given out since. A block
 * that changed has to move; moving takes a cluster, whose count changes another block, and
 * so on, until the queue of blocks that changed is empty. That ends, because each block is in it
 * only once.
 */
#include "batch.h"
#include "error.h"
#include "refblocks.h"
#include "sparse.h"
#include <sys/stat.h>

enum {
    NO_BLOCK = UINT32_MAX, /* a table has a million entries at most */
    AHEAD = 24,            /* entries ahead */
    SMALL_ORDER = 4,       /* smaller counts are not worth a copy */
};

void qc_refs_touch(QcRefs *r, uint64_t i)
{
    RefBlock *b = &r->blocks[i];
    if (b->dirty)
        return;
    b->dirty = true;
    b->next = NO_BLOCK;
    if (r->first_dirty == NO_BLOCK)
        r->first_dirty = i;
    else
        r->blocks[r->last_dirty].next = (uint32_t)i;
    r->last_dirty = i;
}

/* ---- loading ---------------------------------------------------------------------------- */

static int make_counts(QcRefs *r, RefBlock *b)
{
    if (!b->counts)
        b->counts = g_try_malloc0(qc_cluster_size(r->layout));
    if (!b->busy)
        b->busy = g_try_malloc0(bits_size(r));
    return b->counts && b->busy ? 0 : -ENOMEM;
}

bool qc_refs_same_run(const QcRefs *r, const uint8_t *a, const uint8_t *b, uint64_t first)
{
    static const uint8_t zeros[QC_REF_RUN * sizeof(uint64_t)];
    size_t at = (first << r->order) / 8, len = ((size_t)QC_REF_RUN << r->order) / 8;
    return memcmp(a ? a + at : zeros, b ? b + at : zeros, len) == 0;
}

static void set_run_busy(const QcRefs *r, RefBlock *b, uint64_t first)
{
    for (uint64_t i = first; i < first + QC_REF_RUN; i++)
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
    for (uint64_t first = 0; first < counts_per_block(r); first += QC_REF_RUN)
        if (!qc_refs_same_run(r, b->counts, NULL, first))
            set_run_busy(r, b, first);
    return 0;
}

typedef struct LoadTable {
    QcRefs *refs;
    bool lenient;
} LoadTable;

static int load_entry(void *data, uint32_t i, uint64_t offset)
{
    LoadTable *load = data;
    QcRefs *r = load->refs;
    if (!qc_offset_is_valid(r->layout, offset) ||
        (load->lenient && offset >= r->image->info.stat.size))
        return load->lenient ? 0 : -EUCLEAN;
    r->blocks[i].offset = offset;
    r->n_blocks = i + 1;
    return 0;
}

/* Read the table. What cannot be right: skipped when lenient, else -EUCLEAN. */
static int load_table(QcRefs *r, bool lenient)
{
    const QcHeader *h = &r->image->header;
    uint64_t n = ((uint64_t)h->reftable_clusters << r->layout->cluster_bits) / sizeof(be64);
    LoadTable load = {r, lenient};
    r->blocks = g_try_new0(RefBlock, n);
    if (!r->blocks)
        return -ENOMEM;
    r->room = n;
    int err = qc_sparse_read(r->image->file, h->reftable_offset, (uint32_t)n, load_entry, &load);
    return err == -EUCLEAN && lenient ? 0 : err;
}

static int load_blocks(QcRefs *r, QcMeter *meter)
{
    g_autofree QcBatchItem *items = g_try_new(QcBatchItem, MAX(r->n_blocks, 1));
    size_t n = 0;
    if (!items)
        return -ENOMEM;
    for (uint64_t i = 0; i < r->n_blocks; i++)
        if (r->blocks[i].offset)
            items[n++] = (QcBatchItem){.offset = r->blocks[i].offset, .tag = (uint32_t)i};
    return qc_batch_read(r->image, items, n, meter, load_block, r);
}

static bool is_busy(const QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster);
    return b && b->busy && bit_get(b->busy, i);
}

/* A block whose own count is 0 could be given out and written over. */
static bool blocks_are_used(const QcRefs *r)
{
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        uint64_t offset = r->blocks[i].offset;
        if (offset && !is_busy(r, offset >> r->layout->cluster_bits))
            return false;
    }
    return true;
}

static void set_limits(QcRefs *r)
{
    const QcFileStat *st = &r->image->info.stat;
    uint64_t table_max = QC_MAX_REFCOUNT_TABLE_BYTES / sizeof(be64) << r->block_bits;
    uint64_t offset_max = UINT64_C(1) << (56 - r->layout->cluster_bits);
    r->max_clusters = MIN(table_max, offset_max);
    r->max_given = r->max_clusters;
    r->device = S_ISBLK(st->mode);
    if (r->device)
        r->max_given = MIN(r->max_clusters, st->size >> r->layout->cluster_bits);
}

static QcRefs *refs_new(QcImage *image)
{
    QcRefs *r = g_try_new0(QcRefs, 1);
    if (!r)
        return NULL;
    r->image = image;
    r->layout = &image->header.layout;
    r->order = r->layout->refcount_order;
    r->block_bits = r->layout->cluster_bits + 3 - r->order;
    r->next_free = 1; /* the first is the header's, whatever its count says */
    r->first_dirty = r->last_dirty = NO_BLOCK;
    set_limits(r);
    return r;
}

int qc_refs_open(QcImage *image, bool lenient, QcRefs **ret)
{
    g_autoptr(QcRefs) r = refs_new(image);
    int err = !r ? -ENOMEM : load_table(r, lenient);
    if (!err)
        *ret = g_steal_pointer(&r);
    return err;
}

int qc_refs_load(QcImage *image, QcMeter *meter, QcRefs **ret, GError **error)
{
    g_autoptr(QcRefs) r = NULL;
    int err = qc_refs_open(image, false, &r);
    if (!err)
        err = load_blocks(r, meter);
    if (!err && !blocks_are_used(r))
        err = -EUCLEAN;
    if (err == -EUCLEAN)
        return qc_fail(error, err,
                       "the refcount table points outside the file, twice at a block, or at one "
                       "that is counted as free");
    if (err < 0)
        return qc_fail(error, err, "the refcounts cannot be read: %s", g_strerror(-err));
    *ret = g_steal_pointer(&r);
    return 0;
}

void qc_refs_free(QcRefs *r)
{
    if (!r)
        return;
    for (uint64_t i = 0; i < r->n_blocks; i++) {
        g_free(r->blocks[i].counts);
        g_free(r->blocks[i].busy);
        g_free(r->blocks[i].uses);
    }
    g_free(r->blocks);
    g_free(r);
}

/* ---- counts ----------------------------------------------------------------------------- */

uint64_t qc_refs_get(const QcRefs *r, uint64_t cluster)
{
    const RefBlock *b = block_of(r, cluster);
    return b && b->counts ? qc_refcount_get(b->counts, r->order, index_of(r, cluster)) : 0;
}

static int make_uses(const QcRefs *r, RefBlock *b)
{
    b->uses = g_try_malloc0((counts_per_block(r) + 3) / 4);
    for (uint64_t i = 0; b->uses && i < counts_per_block(r); i++)
        set_use(b, i, use_of_count(qc_refcount_get(b->counts, r->order, i)));
    return b->uses ? 0 : -ENOMEM;
}

int qc_refs_use(QcRefs *r, uint64_t cluster, QcRefUse *ret)
{
    RefBlock *b = block_of(r, cluster);
    uint64_t i = index_of(r, cluster);
    if (!b || !b->counts || r->order < SMALL_ORDER) {
        *ret = use_of_count(qc_refs_get(r, cluster));
        return 0;
    }
    int err = b->uses ? 0 : make_uses(r, b);
    if (!err)
        *ret = b->uses[i / 4] >> i % 4 * 2 & 3;
    return err;
}

uint64_t qc_refs_same_use(const QcRefs *r, uint64_t first, uint64_t count, QcRefUse *ret)
{
    QcRefUse use = use_of_count(qc_refs_get(r, first));
    uint64_t same = 1;
    while (same < count && use_of_count(qc_refs_get(r, first + same)) == use)
        same++;
    *ret = use;
    return same;
}

void qc_refs_prefetch_use(const QcRefs *r, const uint8_t *table, uint64_t i)
{
    const QcLayout *l = r->layout;
    i += AHEAD;
    if (i >= qc_l2_entries(l))
        return;
    uint64_t word = be64_load(table + i * qc_l2_entry_size(l));
    uint64_t cluster = (word & QC_OFFSET_MASK) >> l->cluster_bits;
    const RefBlock *b = block_of(r, cluster);
    if (b && b->uses)
        __builtin_prefetch(b->uses + index_of(r, cluster) / 4);
}

void qc_refs_prefetch(const QcRefs *r, uint64_t cluster)
{
    uint64_t index = index_of(r, cluster);
    const RefBlock *b = block_of(r, cluster);
    if (!b || !b->counts)
        return;
    __builtin_prefetch(b->counts + (index << r->order) / 8);
    __builtin_prefetch(b->busy + index / 8);
}

static int add_one(const QcRefs *r, RefBlock *b, uint64_t index, int delta)
{
    if (!bit_get(b->busy, index))
        return -EUCLEAN;
    uint64_t count = qc_refcount_get(b->counts, r->order, index);
    if (delta < 0 && count == 0)
        return -EUCLEAN;
    if (delta > 0 && count == qc_refcount_max(r->order))
        return -EFBIG;
    set_count(r, b, index, delta > 0 ? count + 1 : count - 1);
    return 0;
}

/* Clusters of one block. */
static int add_run(QcRefs *r, uint64_t first, uint64_t count, int delta)
{
    RefBlock *b = block_of(r, first);
    uint64_t index = index_of(r, first);
    int err = b && b->busy ? 0 : -EUCLEAN;
    for (uint64_t i = 0; i < count && !err; i++)
        err = add_one(r, b, index + i, delta);
    if (!err)
        qc_refs_touch(r, first >> r->block_bits);
    return err;
}

int qc_refs_add(QcRefs *r, uint64_t first, uint64_t count, int delta)
{
    int err = 0;
    for (uint64_t run; count > 0 && !err; first += run, count -= run) {
        run = MIN(count, counts_per_block(r) - index_of(r, first));
        err = add_run(r, first, run, delta);
    }
    return err;
}

/* ---- giving out clusters ---------------------------------------------------------------- */

int qc_refs_reach(QcRefs *r, uint64_t cluster)
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

static int give_out(QcRefs *r, uint64_t first, uint64_t count, uint64_t value)
{
    for (uint64_t c = first; c < first + count; c++) {
        int err = qc_refs_reach(r, c);
        if (err < 0)
            return err;
        RefBlock *b = block_of(r, c);
        set_busy(b, index_of(r, c));
        set_count(r, b, index_of(r, c), value);
        qc_refs_touch(r, c >> r->block_bits);
    }
    return 0;
}

/* The first cluster of the first free run of count clusters at or after from. */
static uint64_t find_run(const QcRefs *r, uint64_t from, uint64_t count)
{
    uint64_t run = 0, c = from;
    while (run < count && c < r->max_given) {
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
    if (first > r->max_given || count > r->max_given - first)
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

/* Give the first block of the queue a new place; that may let others queue up. */
static int move_next_block(QcRefs *r)
{
    uint64_t i = r->first_dirty, cluster;
    r->first_dirty = r->blocks[i].next;
    int err = qc_refs_alloc(r, 1, 1, &cluster);
    if (!err && r->blocks[i].offset)
        err = qc_refs_add(r, r->blocks[i].offset >> r->layout->cluster_bits, 1, -1);
    if (!err)
        r->blocks[i].new_offset = cluster << r->layout->cluster_bits;
    return err;
}

static uint64_t table_clusters_needed(const QcRefs *r)
{
    return MAX(1, qc_clusters_for(r->layout, r->n_blocks * sizeof(be64)));
}

/* A place for the table. One that turned out too small is dropped: nothing was written there, but
 * it stays busy, so that it is not given out again. */
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
    while (!err) {
        if (r->table_clusters < table_clusters_needed(r))
            err = place_table(r);
        else if (r->first_dirty != NO_BLOCK)
            err = move_next_block(r);
        else
            break;
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
