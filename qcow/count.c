/*
 * count.c - see count.h.
 *
 * An L2 table that k L1 tables point at is read once and counted k times; so is an L1 table
 * that several snapshots share. Distinct L1 tables of one image never overlap, so there is
 * no more of them to read than the file is long; where they do, they are not read.
 */
#include "count.h"
#include "batch.h"
#include "entry.h"
#include "tree.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void qc_find(QcFindings *f, const char *format, ...)
{
    f->errors++;
    if (f->first)
        return;
    va_list args;
    va_start(args, format);
    f->first = g_strdup_vprintf(format, args);
    va_end(args);
}

typedef struct Count {
    QcImage *image;
    const QcLayout *layout;
    QcRefs *refs;
    QcFindings *findings;
    QcBatchItem *tables; /* L2 tables; tag is how many L1 entries point there */
    size_t n_tables, room;
} Count;

/* Count bytes at offset; a range outside the file is a finding. */
static int count_range(Count *c, const char *what, uint64_t offset, uint64_t bytes, uint64_t times)
{
    int err = qc_refs_count(c->refs, offset >> c->layout->cluster_bits,
                            qc_clusters_for(c->layout, bytes), times);
    if (err == -EUCLEAN)
        qc_find(c->findings, "%s at %#" G_GINT64_MODIFIER "x lies outside the file", what, offset);
    if (err == -EFBIG)
        qc_find(c->findings, "%s at %#" G_GINT64_MODIFIER "x is referred to too often", what,
                offset);
    return err == -ENOMEM ? err : 0;
}

/* ---- trees ------------------------------------------------------------------------------ */

/* An L1 table and how many disks have it. */
typedef struct L1Table {
    uint64_t offset;
    uint32_t entries;
    uint32_t times;
} L1Table;

static int by_place(const void *a, const void *b)
{
    const L1Table *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->entries < y->entries ? -1 : x->entries > y->entries;
}

static int add_table(Count *c, uint64_t offset, uint32_t times)
{
    if (c->n_tables == c->room) {
        size_t room = MAX(1024, c->room * 2);
        QcBatchItem *grown = g_try_renew(QcBatchItem, c->tables, room);
        if (!grown)
            return -ENOMEM;
        c->tables = grown;
        c->room = room;
    }
    c->tables[c->n_tables++] = (QcBatchItem){.offset = offset, .tag = times};
    return 0;
}

/* Note the L2 tables that an L1 table points at. */
static int collect_tables(Count *c, const L1Table *t)
{
    g_autofree uint64_t *l1 = NULL;
    uint64_t size = c->image->info.stat.size;
    int err = qc_l1_load(c->image, t->offset, t->entries, &l1);
    if (err == -EUCLEAN) {
        qc_find(c->findings, "the L1 table at %#" G_GINT64_MODIFIER "x is cut off", t->offset);
        return 0;
    }
    for (uint32_t i = 0; i < t->entries && !err; i++) {
        uint64_t offset;
        if (qc_l1_decode(c->layout, l1[i], &offset) < 0 || offset >= size ||
            size - offset < qc_cluster_size(c->layout))
            qc_find(c->findings, "entry %u of the L1 table at %#" G_GINT64_MODIFIER "x is broken",
                    i, t->offset);
        else if (offset)
            err = add_table(c, offset, t->times);
    }
    return err;
}

static int collect_l1_tables(Count *c, L1Table *list, size_t n)
{
    uint64_t end = 0;
    int err = 0;
    qsort(list, n, sizeof(*list), by_place);
    for (size_t i = 0, next; i < n && !err; i = next) {
        for (next = i + 1; next < n && by_place(&list[i], &list[next]) == 0; next++)
            list[i].times += list[next].times;
        uint64_t bytes = list[i].entries * sizeof(be64);
        if (bytes == 0)
            continue;
        if (list[i].offset < end) {
            qc_find(c->findings, "two L1 tables overlap at %#" G_GINT64_MODIFIER "x",
                    list[i].offset);
            continue;
        }
        end = list[i].offset + bytes;
        err = count_range(c, "the L1 table", list[i].offset, bytes, list[i].times);
        if (!err)
            err = collect_tables(c, &list[i]);
    }
    return err;
}

/* Sum up the entries for the same L2 table. */
static void merge_tables(Count *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_tables; i++) {
        if (n == 0 || c->tables[n - 1].offset != c->tables[i].offset)
            c->tables[n++] = c->tables[i];
        else if (__builtin_add_overflow(c->tables[n - 1].tag, c->tables[i].tag,
                                        &c->tables[n - 1].tag))
            qc_find(c->findings, "the L2 table at %#" G_GINT64_MODIFIER "x is shared too often",
                    c->tables[i].offset);
    }
    c->n_tables = n;
}

static int by_offset(const void *a, const void *b)
{
    const QcBatchItem *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int count_table(void *data, const QcBatchItem *item, uint8_t *table)
{
    Count *c = data;
    const QcLayout *l = c->layout;
    int err = count_range(c, "the L2 table", item->offset, qc_cluster_size(l), item->tag);
    uint64_t n = UINT64_C(1) << qc_l2_bits(l);
    for (uint64_t i = 0; table && i < n && !err; i++) {
        QcCluster cluster = qc_cluster_decode(l, table + i * qc_l2_entry_size(l));
        uint64_t first, count;
        if (cluster.kind == QC_CLUSTER_BAD)
            qc_find(c->findings,
                    "entry %" G_GUINT64_FORMAT " of the L2 table at %#" G_GINT64_MODIFIER
                    "x is broken",
                    i, item->offset);
        qc_cluster_span(l, &cluster, &first, &count);
        if (count > 0)
            err = count_range(c, "the cluster", first << l->cluster_bits, count << l->cluster_bits,
                              item->tag);
    }
    return err;
}

static int count_trees(Count *c)
{
    const QcHeader *h = &c->image->header;
    const QcInfo *info = &c->image->info;
    size_t n = 0;
    g_autofree L1Table *list = g_try_new(L1Table, (size_t)info->n_snapshots + 1);
    if (!list)
        return -ENOMEM;
    list[n++] = (L1Table){h->l1_offset, h->l1_entries, 1};
    for (unsigned i = 0; i < info->n_snapshots; i++)
        list[n++] = (L1Table){info->snapshots[i].l1_offset, info->snapshots[i].l1_entries, 1};
    int err = collect_l1_tables(c, list, n);
    if (err < 0 || c->n_tables == 0)
        return err;
    qsort(c->tables, c->n_tables, sizeof(*c->tables), by_offset);
    merge_tables(c);
    return qc_batch_read(c->image->file, qc_cluster_size(c->layout), c->tables, c->n_tables,
                         count_table, c);
}

/* ---- everything else -------------------------------------------------------------------- */

static int count_refcount_structures(Count *c)
{
    const QcHeader *h = &c->image->header;
    size_t bytes = (size_t)h->reftable_clusters << c->layout->cluster_bits;
    g_autofree be64 *table = g_try_malloc0(bytes);
    if (!table)
        return -ENOMEM;
    int err = count_range(c, "the refcount table", h->reftable_offset, bytes, 1);
    if (!err)
        err = qc_file_read_padded(c->image->file, table, bytes, h->reftable_offset);
    for (size_t i = 0; i < bytes / sizeof(be64) && !err; i++) {
        uint64_t offset = be64_get(table[i]);
        if (offset & ~QC_OFFSET_MASK || !qc_cluster_aligned(c->layout, offset))
            qc_find(c->findings, "entry %zu of the refcount table is broken", i);
        else if (offset)
            err = count_range(c, "the refcount block", offset, 1, 1);
    }
    return err;
}

/* One bitmap's table and the clusters it points at. §"Bitmap table". */
static int count_bitmap(Count *c, uint64_t offset, uint32_t entries)
{
    size_t bytes = entries * sizeof(be64);
    if (bytes > QC_MAX_L1_BYTES || !qc_cluster_aligned(c->layout, offset)) {
        qc_find(c->findings, "a bitmap's table at %#" G_GINT64_MODIFIER "x is broken", offset);
        return 0;
    }
    g_autofree be64 *table = g_try_malloc(MAX(bytes, 1));
    if (!table)
        return -ENOMEM;
    int err = count_range(c, "the bitmap table", offset, bytes, 1);
    if (!err)
        err = qc_file_read_padded(c->image->file, table, bytes, offset);
    for (uint32_t i = 0; i < entries && !err; i++) {
        uint64_t data = be64_get(table[i]) & QC_OFFSET_MASK;
        if (data)
            err = count_range(c, "the bitmap data", data, 1, 1);
    }
    return err;
}

static int count_bitmaps(Count *c)
{
    const QcHeader *h = &c->image->header;
    if (!h->has_bitmaps || !(h->autoclear & QC_AUTOCLEAR_BITMAPS))
        return 0;
    if (c->image->info.n_bitmaps < h->n_bitmaps)
        qc_find(c->findings, "the bitmap directory is broken");
    size_t len = (size_t)h->bitmap_directory_size, at = 0;
    g_autofree uint8_t *dir = g_try_malloc(len);
    int err = dir ? qc_file_read(c->image->file, dir, len, h->bitmap_directory_offset) : -ENOMEM;
    if (!err)
        err = count_range(c, "the bitmap directory", h->bitmap_directory_offset, len, 1);
    for (unsigned i = 0; i < c->image->info.n_bitmaps && !err; i++) {
        QcDiskBitmapEntry d;
        if (len - at < sizeof(d)) { /* another than image.c saw */
            qc_find(c->findings, "the bitmap directory is broken");
            break;
        }
        memcpy(&d, dir + at, sizeof(d));
        err = count_bitmap(c, be64_get(d.table_offset), be32_get(d.table_size));
        uint64_t size = sizeof(d) + (uint64_t)be32_get(d.extra_data_size) + be16_get(d.name_size);
        at += (size_t)MIN(len - at, (size + 7) & ~UINT64_C(7));
    }
    return err;
}

static int count_all(Count *c)
{
    const QcHeader *h = &c->image->header;
    uint64_t snapshots = c->image->snapshots_end - h->snapshots_offset;
    int err = count_range(c, "the header", 0, 1, 1);
    if (!err)
        err = count_refcount_structures(c);
    if (!err && snapshots > 0)
        err = count_range(c, "the snapshot table", h->snapshots_offset, snapshots, 1);
    if (!err && h->luks_length > 0)
        err = count_range(c, "the encryption header", h->luks_offset, h->luks_length, 1);
    if (!err)
        err = count_bitmaps(c);
    return err ? err : count_trees(c);
}

int qc_count_references(QcImage *image, QcFindings *findings, QcRefs **ret)
{
    g_autoptr(QcRefs) refs = NULL;
    int err = qc_refs_new(image, &refs);
    if (err < 0)
        return err;
    Count c = {.image = image, .layout = &image->header.layout, .refs = refs, .findings = findings};
    err = count_all(&c);
    g_free(c.tables);
    if (!err)
        *ret = g_steal_pointer(&refs);
    return err;
}

/* ---- COPIED flags ----------------------------------------------------------------------- */

typedef struct Flags {
    const QcLayout *layout;
    const QcRefs *refs;
    QcFindings *findings;
} Flags;

static int check_table_flags(void *data, uint32_t slot, uint64_t l2_offset, uint8_t *table)
{
    Flags *f = data;
    const QcLayout *l = f->layout;
    (void)slot;
    for (uint64_t i = 0; table && i < UINT64_C(1) << qc_l2_bits(l); i++) {
        QcCluster c = qc_cluster_decode(l, table + i * qc_l2_entry_size(l));
        uint64_t count = qc_refs_get(f->refs, c.host_offset >> l->cluster_bits);
        bool want = count == 1 && c.kind != QC_CLUSTER_COMPRESSED;
        if (c.host_offset && c.kind != QC_CLUSTER_BAD && c.copied != want)
            qc_find(f->findings,
                    "entry %" G_GUINT64_FORMAT " of the L2 table at %#" G_GINT64_MODIFIER
                    "x has the wrong COPIED flag",
                    i, l2_offset);
    }
    return 0;
}

int qc_check_copied(QcImage *image, const QcRefs *refs, QcFindings *findings)
{
    const QcHeader *h = &image->header;
    Flags f = {.layout = &h->layout, .refs = refs, .findings = findings};
    g_autofree uint64_t *l1 = NULL;
    int err = qc_l1_load(image, h->l1_offset, h->l1_entries, &l1);
    for (uint32_t i = 0; i < h->l1_entries && !err; i++) {
        uint64_t offset = l1[i] & QC_OFFSET_MASK;
        uint64_t count = qc_refs_get(refs, offset >> h->layout.cluster_bits);
        if (offset && (count == 1) != (l1[i] >> 63))
            qc_find(findings, "entry %u of the active L1 table has the wrong COPIED flag", i);
    }
    return err ? err : qc_tree_walk(image, l1, h->l1_entries, check_table_flags, &f);
}

/* ---- comparing -------------------------------------------------------------------------- */

typedef struct Compare {
    QcFindings *findings;
    uint64_t leaks;
} Compare;

static void compare_count(void *data, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    Compare *c = data;
    if (stored > counted)
        c->leaks++;
    else
        qc_find(c->findings,
                "cluster %" G_GUINT64_FORMAT " has refcount %" G_GUINT64_FORMAT
                " but %" G_GUINT64_FORMAT " references",
                cluster, stored, counted);
}

void qc_compare_counts(const QcRefs *stored, const QcRefs *counted, QcFindings *findings,
                       uint64_t *ret_leaks)
{
    Compare c = {.findings = findings};
    qc_refs_compare(stored, counted, compare_count, &c);
    *ret_leaks = c.leaks;
}
