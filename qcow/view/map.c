/*
 * map.c - where the bytes of one layer lie. See map.h.
 */
#include "map.h"
#include "entry.h"
#include "extent.h"
#include <errno.h>
#include <string.h>

enum {
    SLICE_ONCE = 4096, /* bytes: the L2 entries of an area whose grains are clusters of its layer */
};

static bool is_slice(const QcCached *cached, const QcImage *image, uint64_t offset, uint64_t size)
{
    return cached && image->cacheable && cached->key.owner == image->owner &&
           cached->key.offset == offset && cached->size >= size;
}

/*
 * The slice of a table that is looked at next, in *held, where it stays until another one is: many
 * extents come from one slice.
 */
static int hold_slice(const QcImage *image, uint64_t offset, uint64_t size, QcCached **held)
{
    if (is_slice(*held, image, offset, size))
        return 0;
    g_clear_pointer(held, qc_cached_unref);
    return qc_image_table_slice(image, offset, size, held);
}

/* The same past the cache, into memory of the search alone, which the next slice is read into. */
static int read_slice(const QcImage *image, uint64_t offset, uint64_t size, QcCached **held)
{
    const QcCachedKey key = {.owner = image->owner, .offset = offset, .kind = QC_CACHED_TABLE};
    if (is_slice(*held, image, offset, size))
        return 0;
    if (!*held)
        *held = qc_cached_new(&key, SLICE_ONCE);
    if (!*held)
        return -ENOMEM;
    (*held)->key = key;
    int err = qc_image_read(image, (*held)->data, size, offset);
    if (err < 0)
        g_clear_pointer(held, qc_cached_unref);
    return err;
}

/* ---- qcow2 ------------------------------------------------------------------------------- */

/* Unallocated, zero or data: what one subcluster is. */
static QcExtentKind subcluster_kind(const QcCluster *c, unsigned i)
{
    if (c->subclusters_zero >> i & 1)
        return QC_EXTENT_ZERO;
    return c->subclusters_allocated >> i & 1 ? QC_EXTENT_DATA : QC_EXTENT_HOLE;
}

/* The extent at byte in of a cluster with subclusters, up to the cluster's end at most. */
static QcExtent subcluster_extent(const QcLayout *l, const QcCluster *c, uint64_t in)
{
    uint64_t size = qc_cluster_size(l) / QC_SUBCLUSTERS;
    unsigned i = (unsigned)(in / size), end = i + 1;
    QcExtentKind kind = subcluster_kind(c, i);
    while (end < QC_SUBCLUSTERS && subcluster_kind(c, end) == kind)
        end++;
    QcExtent e = qc_extent_of(kind, end * size - in);
    if (kind == QC_EXTENT_DATA)
        e.host_offset = c->host_offset + in;
    return e;
}

/* The extent at byte in of a cluster, up to the cluster's end at most. HOLE: not here. */
static QcExtent cluster_extent(const QcImage *image, const QcCluster *c, uint64_t in)
{
    const QcLayout *l = &image->header.layout;
    uint64_t rest = qc_cluster_size(l) - in;
    if (c->host_offset >= image->info.stat.size && c->kind != QC_CLUSTER_ZERO)
        return qc_extent_bad(-EIO, rest); /* cut off: zeros would be a lie */
    if (c->has_subclusters)
        return subcluster_extent(l, c, in);
    switch (c->kind) {
    case QC_CLUSTER_UNALLOCATED:
        return qc_extent_of(QC_EXTENT_HOLE, rest);
    case QC_CLUSTER_ZERO:
        return qc_extent_of(QC_EXTENT_ZERO, rest);
    case QC_CLUSTER_DATA: {
        QcExtent e = qc_extent_of(QC_EXTENT_DATA, rest);
        e.host_offset = c->host_offset + in;
        return e;
    }
    case QC_CLUSTER_COMPRESSED: {
        QcExtent e = qc_extent_of(QC_EXTENT_COMPRESSED, rest);
        e.host_offset = c->host_offset;
        e.host_length = c->host_length;
        e.skip = in;
        return e;
    }
    case QC_CLUSTER_BAD:
    default:
        return qc_extent_bad(-EIO, rest);
    }
}

/* How many bytes from at on, before end, are zeros; in whole words, of which many are looked at in
 * one go: most layers of a long chain have little to say. */
static uint64_t zero_bytes(const QcCached *cached, uint64_t at, uint64_t end)
{
    uint64_t from = at, words[8];
    for (; end - at >= sizeof(words); at += sizeof(words)) {
        uint64_t any = 0;
        memcpy(words, cached->data + at, sizeof(words));
        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
            any |= words[i];
        if (any)
            break;
    }
    while (end - at >= sizeof(words[0]) && be64_load(cached->data + at) == 0)
        at += sizeof(words[0]);
    return at - from;
}

/*
 * How many L2 entries from at on, before end, are nothing but zeros - not allocated, whatever the
 * version - and needed to cover length bytes.
 */
static uint64_t void_entries(const QcLayout *l, const QcCached *cached, uint64_t at, uint64_t end,
                             uint64_t length)
{
    unsigned entry_size = qc_l2_entry_size(l);
    uint64_t needed = qc_clusters_for(l, length);
    end = MIN(end, at + MIN(needed, qc_table_slice(l)) * entry_size);
    return zero_bytes(cached, at, end) / entry_size;
}

/* A slice of an L2 table, and the part of it that matters: bytes of it, whole entries. */
typedef struct Slice {
    const QcCached *cached;
    uint64_t at, end;
} Slice;

/*
 * The slice with the L2 entry of the guest cluster at offset, from that entry on. at == end: the
 * file was cut off before it.
 */
static int find_slice(const QcImage *image, uint64_t l2_offset, uint64_t offset, QcLook *look,
                      Slice *ret)
{
    const QcLayout *l = &image->header.layout;
    unsigned entry_size = qc_l2_entry_size(l);
    bool once = (look->remembered >> l->cluster_bits) * entry_size >= SLICE_ONCE;
    uint64_t slice = once ? MIN(qc_table_slice(l), SLICE_ONCE) : qc_table_slice(l);
    uint64_t index = qc_l2_index(l, offset);
    uint64_t byte = index * entry_size, slice_at = l2_offset + byte / slice * slice;
    uint64_t size = image->info.stat.size;
    uint64_t there = slice_at < size ? MIN(slice, size - slice_at) : 0;

    ret->at = byte % slice;
    ret->end = MAX(there - there % entry_size, ret->at);
    if (ret->at == ret->end)
        return 0;
    int err = once ? read_slice(image, slice_at, slice, &look->page)
                   : hold_slice(image, slice_at, slice, &look->l2);
    ret->cached = once ? look->page : look->l2;
    return err;
}

/* Add what an entry says from byte *in of its cluster on. False: no more can be added. */
static bool add_cluster(const QcImage *image, const uint8_t *entry, uint64_t *in, uint64_t length,
                        QcExtent *e)
{
    const QcLayout *l = &image->header.layout;
    QcCluster c;
    qc_cluster_decode(l, entry, &c);
    do {
        QcExtent next = cluster_extent(image, &c, *in);
        *in = qc_in_cluster(l, *in + next.length);
        if (e->length == 0)
            *e = next;
        else if (!qc_extent_coalesce(e, &next))
            return false;
    } while (*in != 0 && e->length < length);
    return true;
}

/* The extent at offset, whose L2 table lies at l2_offset, as far as one slice of it tells. */
static int map_l2(const QcImage *image, uint64_t l2_offset, uint64_t offset, uint64_t length,
                  QcLook *look, QcExtent *ret)
{
    const QcLayout *l = &image->header.layout;
    unsigned entry_size = qc_l2_entry_size(l);
    uint64_t in = qc_in_cluster(l, offset);
    Slice s = {0};
    int err = find_slice(image, l2_offset, offset, look, &s);
    if (err < 0)
        return err;
    if (s.at == s.end) { /* a file that was cut off has the entries before the cut */
        *ret = qc_extent_bad(-EIO, length);
        return 0;
    }
    QcExtent e = {0};
    bool more = true;
    while (more && s.at < s.end && e.length < length) {
        uint64_t n = 0;
        if (e.length > 0 && e.kind == QC_EXTENT_HOLE)
            n = void_entries(l, s.cached, s.at, s.end, length - e.length);
        e.length += n << l->cluster_bits;
        if (n == 0)
            more = add_cluster(image, s.cached->data + s.at, &in, length, &e);
        look->work += MAX(n, 1);
        s.at += MAX(n, 1) * entry_size;
    }
    e.image = image;
    e.length = MIN(e.length, length);
    *ret = e;
    return 0;
}

/*
 * Whether an L1 entry stands for nothing in this layer: it has no L2 table, or one without a
 * single entry. Such tables are rare, but a hostile image has millions; each is looked at only
 * once. 1, 0, or a negative errno.
 */
static int is_blank(const QcMapping *map, uint64_t entry, QcLook *look)
{
    uint64_t l2_offset;
    if (entry == 0)
        return 1;
    if (!look->exact || qc_l1_decode(&map->image->header.layout, entry, &l2_offset) < 0)
        return 0;
    return l2_offset ? qc_look_table_is_blank(look, map->image, l2_offset) : 1;
}

/* How many L1 entries from index on stand for nothing, as far as one slice tells, and the file
 * reaches: those that were cut off are unknown. */
static int blank_run(const QcMapping *map, const QcCached *cached, uint64_t index, QcLook *look,
                     uint64_t *ret)
{
    uint64_t n = 0, byte = index * sizeof(be64) % qc_table_slice(&map->image->header.layout);
    uint64_t there = (map->image->info.stat.size - map->l1_offset) / sizeof(be64);
    uint64_t end = MIN(map->l1_entries, there);
    int blank = 1;
    while (byte < cached->size && index + n < end && look->work < QC_MAX_WORK) {
        blank = is_blank(map, be64_load(cached->data + byte), look);
        if (blank <= 0)
            break;
        byte += sizeof(be64);
        n++;
    }
    *ret = n;
    return MIN(blank, 0);
}

/* Whether the file ends before an L1 entry does, which may be within the last slice. */
static bool is_cut_off(const QcMapping *map, uint64_t index)
{
    return map->l1_offset + (index + 1) * sizeof(be64) > map->image->info.stat.size;
}

/* An L1 entry, whose slice look->l1 becomes. */
static int find_l1_entry(const QcMapping *map, uint64_t index, QcLook *look, uint64_t *ret)
{
    uint64_t slice = qc_table_slice(&map->image->header.layout), byte = index * sizeof(be64);
    uint64_t before = byte / slice * slice;
    uint64_t size = MIN(slice, map->l1_entries * sizeof(be64) - before);
    int err = hold_slice(map->image, map->l1_offset + before, size, &look->l1);
    if (err < 0)
        return err;
    *ret = be64_load(look->l1->data + byte % slice);
    return 0;
}

int qc_map_qcow2(const QcMapping *map, uint64_t offset, uint64_t length, QcLook *look,
                 QcExtent *ret)
{
    const QcLayout *l = &map->image->header.layout;
    uint64_t span = UINT64_C(1) << qc_l1_shift(l);
    uint64_t index = offset / span, in = offset % span;
    uint64_t rest = MIN(length, span - in), entry, l2_offset, run;
    if (index >= map->l1_entries) {
        *ret = qc_extent_of(QC_EXTENT_HOLE, length);
        return 0;
    }
    /* All entries behind it lie past the end as well: one extent, however many the table claims. */
    if (is_cut_off(map, index)) {
        uint64_t end = (uint64_t)map->l1_entries << qc_l1_shift(l);
        *ret = qc_extent_bad(-EIO, MIN(length, end - offset));
        return 0;
    }
    int err = find_l1_entry(map, index, look, &entry);
    if (err < 0)
        return err;
    if (qc_l1_decode(l, entry, &l2_offset) < 0) {
        *ret = qc_extent_bad(-EIO, rest);
        return 0;
    }
    if (l2_offset != 0 && rest < span) /* not worth more than a look at the entries */
        return map_l2(map->image, l2_offset, offset, rest, look, ret);
    err = blank_run(map, look->l1, index, look, &run);
    if (err < 0)
        return err;
    if (l2_offset != 0 && run == 0)
        return map_l2(map->image, l2_offset, offset, rest, look, ret);
    *ret = qc_extent_of(QC_EXTENT_HOLE, MIN(length, MAX(run, 1) * span - in));
    return 0;
}

/* ---- raw --------------------------------------------------------------------------------- */

int qc_map_raw(const QcImage *image, uint64_t offset, uint64_t length, QcLook *look, QcExtent *ret)
{
    QcFile *file = image->file;
    uint64_t file_size = image->info.stat.size, end = offset + length;
    QcExtentKind kind = QC_EXTENT_DATA;
    if (offset >= file_size) { /* the part of the last sector that the file does not have */
        kind = QC_EXTENT_HOLE;
    } else if (look->exact) {
        look->work += QC_WORK_CALL;
        uint64_t data = qc_file_next_data(file, offset);
        if (data > offset) {
            kind = QC_EXTENT_HOLE;
            end = MIN(end, data);
        } else {
            int64_t hole = qc_file_seek(file, offset, true);
            if (hole > (int64_t)offset)
                end = MIN(end, (uint64_t)hole);
        }
    }
    *ret = qc_extent_of(kind, end - offset);
    ret->image = image;
    ret->host_offset = offset;
    return 0;
}
