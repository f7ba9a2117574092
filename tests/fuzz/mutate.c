/*
 * mutate.c - mutants of images.
 *
 * Bytes changed at random nearly always break the header, and then nothing behind it is
 * reached. So a mutant is made in three steps: changes, most of them to entries of tables
 * where they really are; repair of the header, as far as it keeps the engine from opening
 * the image at all; and, often, refcounts and flags made to fit, so that commands go on.
 * Each step is left out now and then.
 */
#include "fuzz.h"
#include "layout.h"
#include "shape.h"

enum {
    MAX_CHANGES = 4,
};

typedef struct Mutator {
    Shape s;
    uint64_t state;
    GArray *l1, *l2; /* places of entries */
} Mutator;

static uint64_t dice(Mutator *m, uint64_t sides)
{
    m->state = m->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (m->state >> 33) % sides;
}

static bool one_in(Mutator *m, uint64_t n)
{
    return dice(m, n) == 0;
}

/* ---- values ------------------------------------------------------------------------------ */

/* A host offset: mostly a cluster of the file, sometimes none that can be. */
static uint64_t any_offset(Mutator *m)
{
    uint64_t inside = dice(m, m->s.clusters) << m->s.bits;
    switch (dice(m, 16)) {
    case 0:
        return (m->s.clusters + dice(m, 4)) << m->s.bits;
    case 1:
        return inside | 512;
    case 2:
        return UINT64_C(1) << (m->s.bits + dice(m, 56 - m->s.bits));
    case 3:
        return QC_OFFSET_MASK & ~(m->s.cluster - 1);
    default:
        return inside;
    }
}

static uint64_t any_number(Mutator *m)
{
    uint64_t power = UINT64_C(1) << dice(m, 64);
    switch (dice(m, 6)) {
    case 0:
        return 0;
    case 1:
        return power;
    case 2:
        return power - 1;
    case 3:
        return UINT64_MAX - dice(m, 4);
    default:
        return dice(m, 64);
    }
}

static uint64_t compressed_entry(Mutator *m)
{
    unsigned x = 62 - (m->s.bits - 8);
    uint64_t at = dice(m, m->s.len), sectors = dice(m, one_in(m, 4) ? 1 << (m->s.bits - 8) : 3);
    return QC_COMPRESSED | (sectors << x & (QC_COMPRESSED - 1)) | at;
}

static uint64_t any_entry(Mutator *m, uint64_t old)
{
    switch (dice(m, 8)) {
    case 0:
        return 0;
    case 1:
        return QC_ZERO | (one_in(m, 2) ? any_offset(m) : 0);
    case 2:
        return compressed_entry(m);
    case 3:
        return old ^ UINT64_C(1) << dice(m, 64);
    case 4:
        return old ^ QC_COPIED;
    default:
        return any_offset(m) | (one_in(m, 2) ? QC_COPIED : 0);
    }
}

/* ---- changes ----------------------------------------------------------------------------- */

static void visit_collect(Shape *s, uint64_t at, int level, void *data)
{
    (void)s;
    Mutator *m = data;
    g_array_append_val(level == 1 ? m->l1 : m->l2, at);
}

/* Find the entries of all trees. */
static void collect(Mutator *m)
{
    uint64_t at[SHAPE_MAX_SNAPSHOTS], end;
    g_array_set_size(m->l1, 0);
    g_array_set_size(m->l2, 0);
    shape_visit_tree(&m->s, be64_get(m->s.header.l1_table_offset), be32_get(m->s.header.l1_size),
                     visit_collect, m);
    unsigned n = MIN(shape_snapshots(&m->s, at, &end), 4);
    for (unsigned i = 0; i < n; i++) {
        QcDiskSnapshot d;
        memcpy(&d, m->s.bytes + at[i], sizeof(d));
        shape_visit_tree(&m->s, be64_get(d.l1_table_offset), be32_get(d.l1_size), visit_collect, m);
    }
}

static void change_entry(Mutator *m, GArray *places)
{
    if (places->len == 0)
        return;
    uint64_t near = one_in(m, 2) ? MIN(places->len, 64) : places->len; /* the first are in use */
    uint64_t at = g_array_index(places, uint64_t, dice(m, near));
    shape_put_word(&m->s, at, any_entry(m, shape_word(&m->s, at)));
    if (m->s.extended && places == m->l2) {
        uint64_t allocated = any_number(m) & UINT32_MAX, zero = any_number(m) & UINT32_MAX;
        shape_put_word(&m->s, at + 8, allocated | (zero & ~allocated) << 32);
    }
}

/* Let an entry be the same as another one. */
static void share_entry(Mutator *m, GArray *places)
{
    if (places->len < 2)
        return;
    uint64_t from = g_array_index(places, uint64_t, dice(m, places->len));
    uint64_t to = g_array_index(places, uint64_t, dice(m, places->len));
    shape_put_word(&m->s, to, shape_word(&m->s, from));
}

static void change_snapshot(Mutator *m)
{
    uint64_t at[SHAPE_MAX_SNAPSHOTS], end;
    unsigned n = shape_snapshots(&m->s, at, &end);
    if (n == 0)
        return;
    uint64_t place = at[dice(m, n)];
    QcDiskSnapshot d;
    memcpy(&d, m->s.bytes + place, sizeof(d));
    switch (dice(m, 8)) {
    case 0:
        d.l1_table_offset = be64_make(any_offset(m));
        break;
    case 1:
        d.l1_size = be32_make((uint32_t)any_number(m));
        break;
    case 2:
        d.id_size = be16_make((uint16_t)dice(m, 12));
        break;
    case 3:
        d.name_size = be16_make((uint16_t)(one_in(m, 4) ? any_number(m) : dice(m, 20)));
        break;
    case 4:
        d.extra_data_size = be32_make((uint32_t)dice(m, 5) * 8);
        break;
    case 5: /* VM state, disk size or instruction count; or what lies there instead */
        shape_put_word(&m->s, place + sizeof(d) + dice(m, 3) * 8, any_number(m));
        break;
    case 6: /* a byte of id or name */
        if (place + sizeof(d) + 64 < m->s.len)
            m->s.bytes[place + sizeof(d) + 16 + dice(m, 48)] = (uint8_t)any_number(m);
        break;
    default:
        d.vm_state_size = be32_make((uint32_t)any_number(m));
    }
    memcpy(m->s.bytes + place, &d, sizeof(d));
}

static void change_header(Mutator *m)
{
    QcDiskHeader *h = &m->s.header;
    switch (dice(m, 12)) {
    case 0:
        h->size = be64_make(one_in(m, 2) ? any_number(m) : dice(m, 1 << 22));
        break;
    case 1:
        h->l1_size = be32_make((uint32_t)any_number(m));
        break;
    case 2:
        h->l1_table_offset = be64_make(any_offset(m));
        break;
    case 3:
        h->refcount_table_offset = be64_make(any_offset(m));
        break;
    case 4:
        h->refcount_table_clusters = be32_make((uint32_t)any_number(m));
        break;
    case 5:
        h->nb_snapshots = be32_make((uint32_t)dice(m, 8));
        break;
    case 6:
        h->snapshots_offset = be64_make(any_offset(m));
        break;
    case 7:
        h->incompatible_features = be64_make(dice(m, 32));
        break;
    case 8:
        h->refcount_order = be32_make((uint32_t)dice(m, 7));
        break;
    case 9:
        h->backing_file_offset = be64_make(dice(m, m->s.cluster));
        h->backing_file_size = be32_make((uint32_t)dice(m, 64));
        break;
    case 10:
        h->autoclear_features = be64_make(any_number(m));
        break;
    default:
        h->cluster_bits = be32_make(9 + (uint32_t)dice(m, 8));
    }
    shape_put_header(&m->s);
}

/* A header extension where the first one is: bitmaps, or the place of an encryption header. */
static void change_extension(Mutator *m)
{
    uint64_t at = m->s.v3 ? be32_get(m->s.header.header_length) : QC_V2_HEADER_LENGTH;
    bool bitmaps = one_in(m, 2);
    QcDiskExtension e = {be32_make(bitmaps ? QC_EXT_BITMAPS : QC_EXT_LUKS),
                         be32_make(bitmaps ? sizeof(QcDiskBitmaps) : sizeof(QcDiskLuks))};
    QcDiskBitmaps b = {.nb_bitmaps = be32_make(1 + (uint32_t)dice(m, 3)),
                       .directory_size = be64_make(32 + dice(m, 8) * 8),
                       .directory_offset = be64_make(any_offset(m))};
    QcDiskLuks luks = {be64_make(any_offset(m)), be64_make(any_number(m))};
    if (at > m->s.cluster - 64)
        return;
    memcpy(m->s.bytes + at, &e, sizeof(e));
    if (bitmaps)
        memcpy(m->s.bytes + at + sizeof(e), &b, sizeof(b));
    else
        memcpy(m->s.bytes + at + sizeof(e), &luks, sizeof(luks));
}

static void change_refcount(Mutator *m)
{
    uint64_t table = be64_get(m->s.header.refcount_table_offset);
    if (one_in(m, 4))
        shape_put_word(&m->s, table + dice(m, 4) * 8, any_offset(m));
    else
        shape_set_refcount(&m->s, dice(m, m->s.clusters + 4), any_number(m));
}

static void copy_cluster(Mutator *m)
{
    uint64_t from = dice(m, m->s.clusters) << m->s.bits, to = dice(m, m->s.clusters) << m->s.bits;
    uint64_t room = m->s.len - MAX(from, to);
    memmove(m->s.bytes + to, m->s.bytes + from, MIN(room, m->s.cluster));
}

static void change_byte(Mutator *m)
{
    uint64_t at = dice(m, one_in(m, 2) ? MIN(m->s.len, m->s.cluster) : m->s.len);
    m->s.bytes[at] ^= (uint8_t)(1 + dice(m, 255));
}

static void change(Mutator *m)
{
    collect(m);
    switch (dice(m, 17)) {
    case 0 ... 4:
        change_entry(m, m->l2);
        break;
    case 5 ... 6:
        change_entry(m, m->l1);
        break;
    case 7:
        share_entry(m, m->l1);
        break;
    case 8:
        share_entry(m, m->l2);
        break;
    case 9 ... 11:
        change_snapshot(m);
        break;
    case 12:
        change_header(m);
        break;
    case 13:
        change_refcount(m);
        break;
    case 14:
        copy_cluster(m);
        break;
    case 15:
        change_extension(m);
        break;
    default:
        change_byte(m);
    }
}

/* ---- repair ------------------------------------------------------------------------------ */

/* An offset of n bytes inside the file, as near to the old one as can be. */
static be64 inside(const Shape *s, be64 old, uint64_t n)
{
    uint64_t offset = be64_get(old) & ~(s->cluster - 1);
    if (offset < s->len && n <= s->len - offset)
        return be64_make(offset);
    return be64_make(n < s->len ? ((s->len - n) >> s->bits) << s->bits : 0);
}

/* Features that can go together. */
static void repair_features(Shape *s)
{
    QcDiskHeader *h = &s->header;
    uint64_t keep = QC_INCOMPAT_DIRTY | QC_INCOMPAT_CORRUPT | QC_INCOMPAT_COMPRESSION |
                    (s->bits >= QC_MIN_EXTENDED_L2_BITS ? QC_INCOMPAT_EXTENDED_L2 : 0);
    uint64_t bits = be64_get(h->incompatible_features) & keep;
    uint32_t length = be32_get(h->header_length);
    if (length < QC_V3_HEADER_LENGTH || length % 8 || length > s->cluster)
        h->header_length = be32_make(sizeof(*h));
    if (be32_get(h->header_length) < sizeof(*h))
        bits &= ~QC_INCOMPAT_COMPRESSION;
    h->compression_type = bits & QC_INCOMPAT_COMPRESSION ? 1 : 0;
    h->incompatible_features = be64_make(bits);
}

static void repair_backing(Shape *s)
{
    QcDiskHeader *h = &s->header;
    uint64_t at = be64_get(h->backing_file_offset), length = be32_get(h->backing_file_size);
    uint64_t least = s->v3 ? be32_get(h->header_length) : QC_V2_HEADER_LENGTH;
    if (at < least || at > s->cluster || length > MIN(1023, s->cluster - at)) {
        h->backing_file_offset = be64_make(0);
        h->backing_file_size = be32_make(0);
    }
}

/* The L1 table holds what the disk needs, and lies in the file. */
static void repair_l1(Shape *s)
{
    QcDiskHeader *h = &s->header;
    unsigned shift = s->bits + s->bits - (s->extended ? 4 : 3);
    uint64_t room = s->len / 8, n = MIN(be32_get(h->l1_size), room);
    h->l1_table_offset = inside(s, h->l1_table_offset, n * 8);
    n = shape_words_inside(s, be64_get(h->l1_table_offset), n);
    h->l1_size = be32_make((uint32_t)n);
    if (be64_get(h->size) > n << shift)
        h->size = be64_make(n << shift);
}

static void repair_header(Mutator *m)
{
    Shape *s = &m->s;
    QcDiskHeader *h = &s->header;
    uint32_t clusters = be32_get(h->refcount_table_clusters);
    h->crypt_method = be32_make((uint32_t)dice(m, 32) == 1);
    if (s->v3)
        repair_features(s);
    repair_backing(s);
    repair_l1(s);
    if (clusters == 0 || clusters > s->clusters)
        h->refcount_table_clusters = be32_make(1);
    h->refcount_table_offset =
        inside(s, h->refcount_table_offset, be32_get(h->refcount_table_clusters) * s->cluster);
    if (be32_get(h->nb_snapshots) > 16)
        h->nb_snapshots = be32_make((uint32_t)dice(m, 4));
    h->snapshots_offset = inside(s, h->snapshots_offset, 64 * be32_get(h->nb_snapshots));
    shape_put_header(s);
}

/* Magic, version and geometry, without which nothing can be found. */
static bool repair_geometry(Mutator *m, uint8_t *data, size_t size)
{
    QcDiskHeader h;
    if (size < 4 * QC_SECTOR)
        return false;
    memcpy(&h, data, sizeof(h));
    uint32_t bits = be32_get(h.cluster_bits), version = be32_get(h.version);
    h.magic = be32_make(QCOW_MAGIC);
    if (version != 2 && version != 3)
        h.version = be32_make(2 + (uint32_t)dice(m, 2));
    if (bits < 9 || bits > 21 || size >> bits < 4)
        h.cluster_bits = be32_make(9 + (uint32_t)dice(m, 3));
    if (be32_get(h.version) == 3 && be32_get(h.refcount_order) > 6)
        h.refcount_order = be32_make((uint32_t)dice(m, 7));
    memcpy(data, &h, be32_get(h.version) == 3 ? sizeof(h) : QC_V2_HEADER_LENGTH);
    return shape_read(&m->s, data, size);
}

/* Refcounts that fit the tables, and perhaps the flags too. */
static void repair_refcounts(Mutator *m, bool flags_too)
{
    g_autofree uint32_t *refs = shape_count(&m->s).refs;
    for (uint64_t c = 0; c < m->s.clusters; c++)
        shape_set_refcount(&m->s, c, refs[c]);
    ShapeFlags flags = {.refs = refs, .fix = true};
    if (flags_too)
        shape_visit_tree(&m->s, be64_get(m->s.header.l1_table_offset),
                         be32_get(m->s.header.l1_size), shape_visit_flags, &flags);
}

/* ---- all of it --------------------------------------------------------------------------- */

/* Free clusters at the end, or some less. */
static size_t change_size(Mutator *m, uint8_t *data, size_t size, size_t max_size)
{
    size_t room = MIN(max_size - size, 4 * (size_t)m->s.cluster);
    if (one_in(m, 2) || room == 0) {
        size_t less = dice(m, MIN(size / 4, 4 * m->s.cluster) + 1);
        return MAX(size - less, 4 * QC_SECTOR);
    }
    size_t more = dice(m, room);
    memset(data + size, 0, more);
    return size + more;
}

size_t shape_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    Mutator m = {.state = seed};
    dice(&m, 2);
    if (one_in(&m, 32))
        size = LLVMFuzzerMutate(data, size, max_size);
    if (!repair_geometry(&m, data, size))
        return LLVMFuzzerMutate(data, size, max_size);
    if (one_in(&m, 32)) {
        size = change_size(&m, data, size, max_size);
        if (!repair_geometry(&m, data, size))
            return size;
    }
    m.l1 = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    m.l2 = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    for (uint64_t i = 1 + dice(&m, MAX_CHANGES); i > 0; i--)
        change(&m);
    g_array_unref(m.l1);
    g_array_unref(m.l2);
    if (!repair_geometry(&m, data, size))
        return size;
    if (!one_in(&m, 16))
        repair_header(&m);
    if (!one_in(&m, 4) && shape_read(&m.s, data, size))
        repair_refcounts(&m, !one_in(&m, 4));
    return size;
}

size_t shape_mutate_with_prefix(uint8_t *data, size_t size, size_t max_size, unsigned seed,
                                unsigned in_prefix)
{
    if (size < SHAPE_PREFIX || max_size < SHAPE_PREFIX)
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 4 < in_prefix) {
        data[seed / 4 % SHAPE_PREFIX] = (uint8_t)(seed >> 16);
        return size;
    }
    return SHAPE_PREFIX +
           shape_mutate(data + SHAPE_PREFIX, size - SHAPE_PREFIX, max_size - SHAPE_PREFIX, seed);
}
