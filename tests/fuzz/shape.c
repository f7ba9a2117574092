/* shape.c - see shape.h and layout.h. */
#include "shape.h"
#include "layout.h"
#include "refcodec.h"

enum {
    BEYOND = 4096, /* clusters past the end of the file whose counts have to be 0 */
};

/* ---- places ------------------------------------------------------------------------------ */

bool shape_read(Shape *s, uint8_t *bytes, size_t len)
{
    *s = (Shape){.bytes = bytes, .len = len};
    if (len < QC_SECTOR)
        return false;
    memcpy(&s->header, bytes, sizeof(s->header));
    uint32_t version = be32_get(s->header.version);
    s->bits = be32_get(s->header.cluster_bits);
    s->v3 = version == 3;
    s->order = s->v3 ? be32_get(s->header.refcount_order) : 4;
    s->extended = s->v3 && be64_get(s->header.incompatible_features) & QC_INCOMPAT_EXTENDED_L2;
    if (be32_get(s->header.magic) != QCOW_MAGIC || (version != 2 && version != 3) || s->bits < 9 ||
        s->bits > 21 || s->order > 6)
        return false;
    s->cluster = UINT64_C(1) << s->bits;
    s->clusters = (len + s->cluster - 1) >> s->bits;
    return true;
}

void shape_put_header(const Shape *s)
{
    memcpy(s->bytes, &s->header, s->v3 ? sizeof(s->header) : QC_V2_HEADER_LENGTH);
}

uint64_t shape_word(const Shape *s, uint64_t at)
{
    be64 v;
    if (s->len < sizeof(v) || at > s->len - sizeof(v))
        return 0;
    memcpy(&v, s->bytes + at, sizeof(v));
    return be64_get(v);
}

void shape_put_word(const Shape *s, uint64_t at, uint64_t value)
{
    be64 v = be64_make(value);
    if (s->len >= sizeof(v) && at <= s->len - sizeof(v))
        memcpy(s->bytes + at, &v, sizeof(v));
}

uint64_t shape_words_inside(const Shape *s, uint64_t offset, uint64_t n)
{
    return offset >= s->len ? 0 : MIN(n, (s->len - offset) / 8);
}

void shape_visit_tree(Shape *s, uint64_t l1, uint32_t n, ShapeVisit visit, void *data)
{
    uint64_t step = s->extended ? 16 : 8;
    n = (uint32_t)MIN(shape_words_inside(s, l1, n), SHAPE_MAX_L1);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t l2 = shape_word(s, l1 + i * 8u) & QC_OFFSET_MASK;
        visit(s, l1 + i * 8u, 1, data);
        if (!l2)
            continue;
        uint64_t words = shape_words_inside(s, l2, s->cluster / 8);
        for (uint64_t at = 0; at + step <= words * 8; at += step)
            visit(s, l2 + at, 2, data);
    }
}

unsigned shape_snapshots(const Shape *s, uint64_t at[static SHAPE_MAX_SNAPSHOTS], uint64_t *ret_end)
{
    uint64_t next = be64_get(s->header.snapshots_offset);
    unsigned n = MIN(be32_get(s->header.nb_snapshots), SHAPE_MAX_SNAPSHOTS), i;
    for (i = 0; i < n && next < s->len && s->len - next >= sizeof(QcDiskSnapshot); i++) {
        QcDiskSnapshot d;
        memcpy(&d, s->bytes + next, sizeof(d));
        at[i] = next;
        next += sizeof(d) + (uint64_t)be32_get(d.extra_data_size) + be16_get(d.id_size) +
                be16_get(d.name_size);
        next = (next + 7) & ~UINT64_C(7);
    }
    *ret_end = next;
    return i;
}

/* ---- counting ---------------------------------------------------------------------------- */

/* What refers to a cluster; several may. */
enum {
    BY_METADATA = 1,
    BY_L1 = 2,
    BY_L2 = 4,
};

typedef struct Count {
    ShapeCount result;
    uint8_t *by;
} Count;

static void count_bytes(const Shape *s, Count *c, uint8_t by, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return;
    if (offset >= s->len || bytes > s->clusters * s->cluster - offset) {
        c->result.outside = true;
        return;
    }
    for (uint64_t i = offset >> s->bits; i <= (offset + bytes - 1) >> s->bits; i++) {
        c->result.refs[i]++;
        c->result.mixed = c->result.mixed || c->by[i] & ~by;
        c->by[i] |= by;
    }
}

/* The host bytes that an L2 entry refers to; none: 0. */
static uint64_t entry_bytes(const Shape *s, uint64_t entry, uint64_t *ret_offset)
{
    unsigned x = 62 - (s->bits - 8);
    *ret_offset = entry & QC_OFFSET_MASK;
    if (!(entry & QC_COMPRESSED))
        return *ret_offset ? s->cluster : 0;
    uint64_t at = entry & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = ((entry & ~(QC_COMPRESSED | QC_COPIED)) >> x) + 1;
    *ret_offset = at & ~UINT64_C(511);
    return sectors * 512;
}

static void visit_count(Shape *s, uint64_t at, int level, void *data)
{
    Count *c = data;
    uint64_t entry = shape_word(s, at), offset;
    if (level == 1) {
        if (entry & QC_OFFSET_MASK)
            count_bytes(s, c, BY_L1, entry & QC_OFFSET_MASK, s->cluster);
        return;
    }
    uint64_t bytes = entry_bytes(s, entry, &offset);
    count_bytes(s, c, BY_L2, offset, bytes);
}

static void count_tree(Shape *s, Count *c, uint64_t l1, uint32_t n)
{
    count_bytes(s, c, BY_METADATA, l1, (uint64_t)n * 8);
    if (n > SHAPE_MAX_L1)
        c->result.outside = true;
    shape_visit_tree(s, l1, n, visit_count, c);
}

static void count_snapshots(Shape *s, Count *c)
{
    uint64_t at[SHAPE_MAX_SNAPSHOTS], end, start = be64_get(s->header.snapshots_offset);
    unsigned n = shape_snapshots(s, at, &end);
    if (n < be32_get(s->header.nb_snapshots))
        c->result.outside = true;
    if (n > 0)
        count_bytes(s, c, BY_METADATA, start, end - start);
    for (unsigned i = 0; i < n; i++) {
        QcDiskSnapshot d;
        memcpy(&d, s->bytes + at[i], sizeof(d));
        count_tree(s, c, be64_get(d.l1_table_offset), be32_get(d.l1_size));
    }
}

static void count_refcounts(const Shape *s, Count *c)
{
    uint64_t table = be64_get(s->header.refcount_table_offset);
    uint64_t bytes = (uint64_t)be32_get(s->header.refcount_table_clusters) << s->bits;
    uint64_t n = shape_words_inside(s, table, bytes / 8);
    count_bytes(s, c, BY_METADATA, table, bytes);
    for (uint64_t i = 0; i < n; i++)
        if (shape_word(s, table + i * 8))
            count_bytes(s, c, BY_METADATA, shape_word(s, table + i * 8), s->cluster);
}

ShapeCount shape_count(Shape *s)
{
    Count c = {.result = {.refs = g_new0(uint32_t, s->clusters + 1)}};
    c.by = g_new0(uint8_t, s->clusters + 1);
    count_bytes(s, &c, BY_METADATA, 0, 1);
    count_refcounts(s, &c);
    count_tree(s, &c, be64_get(s->header.l1_table_offset), be32_get(s->header.l1_size));
    count_snapshots(s, &c);
    g_free(c.by);
    return c.result;
}

/* ---- stored counts and flags ------------------------------------------------------------- */

/* The refcount block of a cluster, or NULL; ret: the index in it. */
static uint8_t *block_of(const Shape *s, uint64_t cluster, uint64_t *ret)
{
    uint64_t per_block = s->cluster * 8 >> s->order;
    uint64_t table = be64_get(s->header.refcount_table_offset);
    uint64_t entries = ((uint64_t)be32_get(s->header.refcount_table_clusters) << s->bits) / 8;
    if (cluster / per_block >= shape_words_inside(s, table, entries))
        return NULL;
    uint64_t block = shape_word(s, table + cluster / per_block * 8);
    *ret = cluster % per_block;
    bool inside = block && block < s->len && s->len - block >= s->cluster;
    return inside ? s->bytes + block : NULL;
}

uint64_t shape_refcount(const Shape *s, uint64_t cluster)
{
    uint64_t i;
    const uint8_t *block = block_of(s, cluster, &i);
    return block ? qc_refcount_get(block, s->order, i) : 0;
}

void shape_set_refcount(const Shape *s, uint64_t cluster, uint64_t value)
{
    uint64_t i;
    uint8_t *block = block_of(s, cluster, &i);
    if (block)
        qc_refcount_set(block, s->order, i, MIN(value, qc_refcount_max(s->order)));
}

void shape_visit_flags(Shape *s, uint64_t at, int level, void *data)
{
    ShapeFlags *f = data;
    uint64_t entry = shape_word(s, at), offset = entry & QC_OFFSET_MASK;
    bool compressed = level == 2 && entry & QC_COMPRESSED;
    if (!compressed && (!offset || offset >= s->len))
        return;
    bool copied = !compressed && f->refs[offset >> s->bits] == 1;
    if (copied == (entry >> 63))
        return;
    f->wrong++;
    if (f->fix)
        shape_put_word(s, at, copied ? entry | QC_COPIED : entry & ~QC_COPIED);
}

/* ---- the audit --------------------------------------------------------------------------- */

/* Something of the image is not counted by shape_count(). */
static bool has_more(const Shape *s)
{
    for (size_t at = 0; at + 4 <= MIN(s->len, s->cluster); at += 8) {
        be32 v;
        memcpy(&v, s->bytes + at, sizeof(v));
        if (be32_get(v) == QC_EXT_BITMAPS || be32_get(v) == QC_EXT_LUKS)
            return true;
    }
    return false;
}

Soundness shape_audit(const MemFile *file, char why[static 128])
{
    strcpy(why, "not an image, or not all of it in the file");
    Shape s;
    if (!shape_read(&s, file->data->data, file->data->len))
        return SHAPE_UNSOUND;
    ShapeCount count = shape_count(&s);
    g_autofree uint32_t *refs = count.refs;
    bool exact = !has_more(&s) && !count.mixed;
    if (count.outside || refs[0] != 1)
        return SHAPE_UNSOUND;
    for (uint64_t c = 0; c < s.clusters; c++) {
        uint64_t stored = shape_refcount(&s, c);
        if (stored != refs[c])
            g_snprintf(why, 128, "cluster %d: refcount %d, references %d", (int)c, (int)stored,
                       (int)refs[c]);
        if (stored < refs[c])
            return SHAPE_UNSOUND;
        exact = exact && stored == refs[c];
    }
    for (uint64_t c = s.clusters; c < s.clusters + BEYOND; c++)
        exact = exact && shape_refcount(&s, c) == 0;
    if (exact)
        strcpy(why, "COPIED flags");
    ShapeFlags flags = {.refs = refs};
    shape_visit_tree(&s, be64_get(s.header.l1_table_offset), be32_get(s.header.l1_size),
                     shape_visit_flags, &flags);
    return !exact ? SHAPE_SOUND : flags.wrong ? SHAPE_COUNTED : SHAPE_CLEAN;
}
