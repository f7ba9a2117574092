/*
 * count.c - see count.h.
 *
 * The work is bounded by what the file really holds. An L2 table that k L1 tables point at is
 * read once and counted k times; so is an L1 table that several snapshots share. Tables may not
 * overlap, and those that do are not read; so there is no more of them to read than the file is
 * long, and what of it is holes is not read at all. Tables are counted before data and may share a
 * cluster with nothing; so data that overlaps a table is found too.
 *
 * Which disks have an L2 table is one number, its owners: twice how many L1 entries point there,
 * and 1 more when one of them is the active disk's.
 */
#include "count.h"
#include "batch.h"
#include "entry.h"
#include "findings.h"
#include "sparse.h"
#include "spread.h"
#include "tally.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Count {
    QcImage *image;
    const QcLayout *layout;
    QcTally tally;
    QcMeter *meter;
    QcCheck *findings;
    QcSpread *spread;    /* of rows and single clusters; tag is how often to count each */
    QcBatchItem *tables; /* L2 tables; tag is their owners */
    size_t n_tables, room;
    size_t most_entries; /* of an L1 table: room to begin with, so as not to sort too often */
    uint64_t at;         /* the table that is being read */
    uint32_t owners;     /* of what it points at */
} Count;

#define AT " at %#" G_GINT64_MODIFIER "x "

/* What a result of qc_tally_count() means. */
static const char *count_error(int err)
{
    switch (err) {
    case -EUCLEAN:
        return "lies outside the file";
    case -EFBIG:
        return "is referred to too often";
    case -EEXIST:
        return "shares a cluster with a table";
    case -ENODATA:
        return "is not protected by any refcount";
    default: /* -E2BIG */
        return "is more than the file can hold";
    }
}

/*
 * Count bytes at offset. *ret_counted (NULL: the caller goes on either way): they can be what they
 * are said to be, which else is a finding. -ENOMEM.
 */
static int count_range(Count *c, const char *what, uint64_t offset, uint64_t bytes, uint64_t times,
                       QcRefKind kind, bool *ret_counted)
{
    int err = qc_tally_count(&c->tally, offset >> c->layout->cluster_bits,
                             qc_clusters_for(c->layout, bytes), times, kind, NULL);
    if (ret_counted)
        *ret_counted = err == 0;
    if (err == 0 || err == -ENOMEM)
        return err;
    qc_find(c->findings, "%s" AT "%s", what, offset, count_error(err));
    return 0;
}

/* The same of a table, which has to begin with a cluster. */
static int count_table(Count *c, const char *what, uint64_t offset, uint64_t bytes, uint64_t times,
                       bool *ret_counted)
{
    if (qc_cluster_aligned(c->layout, offset))
        return count_range(c, what, offset, bytes, times, QC_REF_TABLE, ret_counted);
    qc_find(c->findings, "%s" AT "does not begin with a cluster", what, offset);
    if (ret_counted)
        *ret_counted = false;
    return 0;
}

/* Count a table of n numbers and, if it can be one, read it. One of no numbers lies nowhere. */
static int count_and_read(Count *c, const char *what, uint64_t offset, uint32_t n, uint64_t times,
                          QcSparseFunc func)
{
    bool counted;
    if (n == 0)
        return 0;
    int err = count_table(c, what, offset, n * sizeof(be64), times, &counted);
    if (!counted)
        return err;
    c->at = offset;
    err = qc_sparse_read(c->image->file, offset, n, func, c);
    if (err != -EUCLEAN)
        return err;
    qc_find(c->findings, "%s" AT "is cut off", what, offset);
    return 0;
}

/* ---- trees ------------------------------------------------------------------------------ */

/* An L1 table and how many disks have it. */
typedef struct L1Table {
    uint64_t offset;
    uint32_t entries;
    uint32_t times;
    bool active; /* one of them is the active disk */
} L1Table;

static uint32_t make_owners(uint32_t times, bool active)
{
    return times * 2 + active;
}

static bool of_active(uint32_t owners)
{
    return owners & 1;
}

static uint32_t times_of(uint32_t owners)
{
    return owners >> 1;
}

static int by_place(const void *a, const void *b)
{
    const L1Table *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->entries < y->entries ? -1 : x->entries > y->entries;
}

/* Let a table have these owners, too. */
static void add_owners(Count *c, QcBatchItem *table, uint32_t owners)
{
    if (of_active(owners) && of_active(table->tag)) {
        qc_find(c->findings, "the L2 table" AT "has two entries of the active L1 table",
                table->offset);
        owners = make_owners(times_of(owners), false);
    }
    if (__builtin_add_overflow(table->tag, owners, &table->tag))
        qc_find(c->findings, "the L2 table" AT "is shared too often", table->offset);
}

/* Sum up the entries for the same L2 table. */
static void merge_tables(Count *c)
{
    size_t n = 0;
    qc_batch_sort(c->tables, c->n_tables);
    for (size_t i = 0; i < c->n_tables; i++) {
        if (n == 0 || c->tables[n - 1].offset != c->tables[i].offset)
            c->tables[n++] = c->tables[i];
        else
            add_owners(c, &c->tables[n - 1], c->tables[i].tag);
    }
    c->n_tables = n;
}

/* There is never much more room than the distinct tables take: snapshots share most of them. */
static int make_room(Count *c)
{
    merge_tables(c);
    if (c->n_tables > 0 && c->n_tables <= c->room / 2)
        return 0;
    size_t room = MAX(MAX(1024, c->most_entries), c->room * 2);
    QcBatchItem *grown = g_try_renew(QcBatchItem, c->tables, room);
    if (!grown)
        return -ENOMEM;
    c->tables = grown;
    c->room = room;
    return 0;
}

/* Note the L2 table that an L1 entry points at. */
static int collect_table(void *data, uint32_t index, uint64_t entry)
{
    Count *c = data;
    uint64_t offset, size = c->image->info.stat.size;
    if (qc_l1_decode_strictly(c->layout, entry, &offset) < 0 || offset >= size ||
        size - offset < qc_cluster_size(c->layout)) {
        qc_find(c->findings, "entry %u of the L1 table" AT "is broken", index, c->at);
        return 0;
    }
    int err = c->n_tables == c->room ? make_room(c) : 0;
    if (!err)
        c->tables[c->n_tables++] = (QcBatchItem){.offset = offset, .tag = c->owners};
    return err;
}

static int collect_l1_tables(Count *c, L1Table *list, size_t n)
{
    int err = 0;
    qsort(list, n, sizeof(*list), by_place);
    for (size_t i = 0; i < n; i++)
        c->most_entries = MAX(c->most_entries, list[i].entries);
    for (size_t i = 0, next; i < n && !err; i = next) {
        L1Table *t = &list[i];
        for (next = i + 1; next < n && by_place(t, &list[next]) == 0; next++) {
            t->times += list[next].times;
            t->active |= list[next].active;
        }
        c->owners = make_owners(t->times, t->active);
        err = count_and_read(c, "the L1 table", t->offset, t->entries, t->times, collect_table);
    }
    return err;
}

static int count_data(Count *c, uint64_t first, uint64_t count, uint64_t times)
{
    unsigned bits = c->layout->cluster_bits;
    return count_range(c, "the cluster", first << bits, count << bits, times, QC_REF_DATA, NULL);
}

/* Clusters of as many entries. From one on that cannot be counted, each has its own finding. */
static int count_row(void *data, uint64_t first, uint64_t count, uint32_t times)
{
    Count *c = data;
    uint64_t counted;
    int err = qc_tally_count(&c->tally, first, count, times, QC_REF_DATA, &counted);
    if (err == -ENOMEM)
        return err;
    for (err = 0; counted < count && !err; counted++)
        err = count_data(c, first + counted, 1, times);
    return err;
}

/*
 * Which rule of the format an entry breaks; NULL: none. A wrong COPIED flag is found by a check
 * and set right by the commands, but both look at the active tree only.
 */
static const char *broken_rule(const QcCluster *cluster, uint32_t owners)
{
    if (cluster->kind == QC_CLUSTER_BAD)
        return "is broken";
    if (cluster->kind != QC_CLUSTER_COMPRESSED)
        return NULL;
    if (cluster->has_bitmap)
        return "is of a compressed cluster, and says which of its subclusters are allocated";
    if (cluster->copied && (!of_active(owners) || times_of(owners) > 1))
        return "is of a compressed cluster of a snapshot, and has the COPIED flag; qemu-img "
               "snapshot -d mends that";
    return NULL;
}

/* Count what an L2 table refers to. */
static int count_entries(void *data, const QcBatchItem *item, uint8_t *table)
{
    Count *c = data;
    const QcLayout *l = c->layout;
    uint64_t n = table ? qc_l2_entries(l) : 0;
    uint32_t times = times_of(item->tag);
    int err = 0;
    for (uint64_t i = 0, row; i < n && !err; i += row) {
        QcCluster cluster;
        row = qc_cluster_decode_row(l, table + i * qc_l2_entry_size(l), n - i, &cluster);
        const char *rule = broken_rule(&cluster, item->tag);
        uint64_t first, count;
        if (rule)
            qc_find(c->findings, "entry %" G_GUINT64_FORMAT " of the L2 table" AT "%s", i,
                    item->offset, rule);
        qc_cluster_span(l, &cluster, &first, &count);
        if (count == 1)
            err = qc_spread_add(c->spread, first, row, times);
        else if (count > 0)
            err = count_data(c, first, count, times);
    }
    return err;
}

/* The tables first; those that cannot be tables are not read. */
static int count_l2_tables(Count *c)
{
    size_t n = 0;
    int err = 0;
    merge_tables(c);
    for (size_t i = 0; i < c->n_tables && !err; i++) {
        bool counted;
        err = count_range(c, "the L2 table", c->tables[i].offset, qc_cluster_size(c->layout),
                          times_of(c->tables[i].tag), QC_REF_TABLE, &counted);
        if (counted)
            c->tables[n++] = c->tables[i];
    }
    if (err < 0)
        return err;
    qc_meter_set_total(c->meter, n);
    err = qc_spread_new(c->tally.refs, qc_clusters_for(c->layout, c->image->info.stat.size),
                        count_row, c, &c->spread);
    if (!err)
        err = qc_batch_read(c->image, c->tables, n, c->meter, count_entries, c);
    return err ? err : qc_spread_flush(c->spread);
}

static int count_trees(Count *c)
{
    const QcHeader *h = &c->image->header;
    const QcInfo *info = &c->image->info;
    size_t n = 0;
    g_autofree L1Table *list = g_try_new(L1Table, (size_t)info->n_snapshots + 1);
    if (!list)
        return -ENOMEM;
    list[n++] = (L1Table){h->l1_offset, h->l1_entries, 1, true};
    for (unsigned i = 0; i < info->n_snapshots; i++)
        list[n++] =
            (L1Table){info->snapshots[i].l1_offset, info->snapshots[i].l1_entries, 1, false};
    int err = collect_l1_tables(c, list, n);
    return err ? err : count_l2_tables(c);
}

/* ---- everything else -------------------------------------------------------------------- */

static int count_block(void *data, uint32_t index, uint64_t offset)
{
    Count *c = data;
    if (qc_offset_is_valid(c->layout, offset))
        return count_range(c, "the refcount block", offset, 1, 1, QC_REF_TABLE, NULL);
    qc_find(c->findings, "entry %u of the refcount table is broken", index);
    return 0;
}

static int count_refcount_structures(Count *c)
{
    const QcHeader *h = &c->image->header;
    uint64_t bytes = (uint64_t)h->reftable_clusters << c->layout->cluster_bits;
    return count_and_read(c, "the refcount table", h->reftable_offset,
                          (uint32_t)(bytes / sizeof(be64)), 1, count_block);
}

/* An entry of a bitmap's table: where a cluster of it is, or what all its bits are. */
static int count_bitmap_data(void *data, uint32_t index, uint64_t offset)
{
    Count *c = data;
    if (offset == QC_BITMAP_ALL_ONES)
        return 0;
    if (qc_offset_is_valid(c->layout, offset))
        return count_range(c, "the bitmap data", offset, 1, 1, QC_REF_TABLE, NULL);
    qc_find(c->findings, "entry %u of the bitmap table" AT "is broken", index, c->at);
    return 0;
}

/* One bitmap's table and the clusters it points at. §"Bitmap table". */
static int count_bitmap(Count *c, const QcBitmapTable *t)
{
    return count_and_read(c, "the bitmap table", t->offset, t->entries, 1, count_bitmap_data);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* QEMU opens no image with two of a name. */
static int check_bitmap_names(Count *c)
{
    const QcInfo *info = &c->image->info;
    g_autofree const char **names = g_try_new(const char *, MAX(info->n_bitmaps, 1));
    if (!names)
        return -ENOMEM;
    for (unsigned i = 0; i < info->n_bitmaps; i++)
        names[i] = info->bitmaps[i].name;
    qsort(names, info->n_bitmaps, sizeof(*names), by_name);
    for (unsigned i = 1; i < info->n_bitmaps; i++) {
        if (strcmp(names[i - 1], names[i]) != 0)
            continue;
        qc_find(c->findings, "two bitmaps have the same name");
        break;
    }
    return 0;
}

static int count_bitmaps(Count *c)
{
    const QcHeader *h = &c->image->header;
    if (!h->has_bitmaps)
        return 0;
    if (!c->image->bitmaps_whole)
        qc_find(c->findings, "the bitmap directory is broken");
    if (h->bitmaps_reserved)
        qc_find(c->findings, "the bitmaps extension has something where there has to be 0");
    int err = count_table(c, "the bitmap directory", h->bitmap_directory_offset,
                          h->bitmap_directory_size, 1, NULL);
    if (!err)
        err = check_bitmap_names(c);
    for (unsigned i = 0; i < c->image->info.n_bitmaps && !err; i++)
        err = count_bitmap(c, &c->image->bitmap_tables[i]);
    return err;
}

static int count_all(Count *c)
{
    const QcHeader *h = &c->image->header;
    uint64_t snapshots = c->image->snapshots_end - h->snapshots_offset;
    int err = count_range(c, "the header", 0, 1, 1, QC_REF_TABLE, NULL);
    if (!err)
        err = count_refcount_structures(c);
    if (!err && snapshots > 0)
        err = count_table(c, "the snapshot table", h->snapshots_offset, snapshots, 1, NULL);
    if (!err && h->luks_length > 0)
        err = count_table(c, "the encryption header", h->luks_offset, h->luks_length, 1, NULL);
    if (!err)
        err = count_bitmaps(c);
    return err ? err : count_trees(c);
}

int qc_count_references(QcImage *image, const QcRefs *stored, QcMeter *meter, QcCheck *findings,
                        QcRefs **ret)
{
    Count c = {
        .image = image, .layout = &image->header.layout, .meter = meter, .findings = findings};
    int err = qc_tally_init(&c.tally, image, stored);
    if (!err)
        err = count_all(&c);
    if (!err)
        *ret = g_steal_pointer(&c.tally.refs);
    g_free(c.tables);
    qc_spread_free(c.spread);
    qc_tally_clear(&c.tally);
    return err;
}
