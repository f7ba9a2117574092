/* craft.c - see craft.h. */
#include "craft.h"
#include "format.h"
#include "judge.h"
#include "refcodec.h"
#include <string.h>
#include <zlib.h>

/* ---- bytes ------------------------------------------------------------------------------ */

static QcDiskHeader header_of(const MemFile *file)
{
    QcDiskHeader h;
    memcpy(&h, file->data->data, sizeof(h));
    return h;
}

static void put_header(MemFile *file, const QcDiskHeader *h)
{
    memcpy(file->data->data, h,
           be32_get(h->version) == 2 ? QC_V2_HEADER_LENGTH : offsetof(QcDiskHeader, padding));
}

static unsigned bits_of(const MemFile *file)
{
    return be32_get(header_of(file).cluster_bits);
}

static bool is_extended(const MemFile *file)
{
    QcDiskHeader h = header_of(file);
    return be32_get(h.version) > 2 && be64_get(h.incompatible_features) & QC_INCOMPAT_EXTENDED_L2;
}

/* Zeros behind the end, from a cluster's start on, for so many bytes. Returns where. */
static uint64_t append(MemFile *file, uint64_t bytes)
{
    uint64_t cluster = UINT64_C(1) << bits_of(file);
    uint64_t at = (file->data->len + cluster - 1) / cluster * cluster;
    uint64_t end = (at + bytes + cluster - 1) / cluster * cluster;
    guint old = file->data->len;
    g_byte_array_set_size(file->data, (guint)end);
    memset(file->data->data + old, 0, end - old);
    return at;
}

/* ---- refcounts and flags, anew ---------------------------------------------------------- */

/* The old structures are referred to no more: where they were is free. */
static void new_refcount_structures(MemFile *file)
{
    QcDiskHeader h = header_of(file);
    unsigned order = be32_get(h.version) == 2 ? 4 : be32_get(h.refcount_order);
    uint64_t cluster = UINT64_C(1) << bits_of(file), per_block = cluster * 8 >> order;
    uint64_t used = file->data->len / cluster + 1, blocks = 1, table = 1;
    while (blocks * per_block < used + blocks + table) {
        blocks++;
        table = (blocks * 8 + cluster - 1) / cluster;
    }
    uint64_t at = append(file, table * cluster), block = append(file, blocks * cluster);
    for (uint64_t i = 0; i < blocks; i++)
        mem_file_put_word(file, at + i * 8, block + i * cluster);
    h.refcount_table_offset = be64_make(at);
    h.refcount_table_clusters = be32_make((uint32_t)table);
    put_header(file, &h);
}

static uint8_t *counts_of(const MemFile *file, uint64_t c, unsigned *ret_order, uint64_t *ret_index)
{
    QcDiskHeader h = header_of(file);
    *ret_order = be32_get(h.version) == 2 ? 4 : be32_get(h.refcount_order);
    uint64_t per_block = (UINT64_C(8) << bits_of(file)) >> *ret_order;
    *ret_index = c % per_block;
    return file->data->data +
           mem_file_word(file, be64_get(h.refcount_table_offset) + c / per_block * 8);
}

static void add_to_count(MemFile *file, uint64_t cluster, int delta)
{
    unsigned order;
    uint64_t i;
    uint8_t *counts = counts_of(file, cluster, &order, &i);
    qc_refcount_set(counts, order, i, qc_refcount_get(counts, order, i) + (uint64_t)delta);
}

static uint64_t flagged(const MemFile *file, const uint32_t *refs, uint64_t entry)
{
    uint64_t offset = entry & QC_OFFSET_MASK;
    bool copied = !(entry & QC_COMPRESSED) && offset && refs[offset >> bits_of(file)] == 1;
    return (entry & ~QC_COPIED) | (copied ? QC_COPIED : 0);
}

static void set_flags(MemFile *file, const uint32_t *refs)
{
    QcDiskHeader h = header_of(file);
    uint64_t l1 = be64_get(h.l1_table_offset), cluster = UINT64_C(1) << bits_of(file);
    uint64_t step = is_extended(file) ? 16 : 8;
    for (uint64_t at = l1; at < l1 + be32_get(h.l1_size) * UINT64_C(8); at += 8) {
        uint64_t l2 = mem_file_word(file, at) & QC_OFFSET_MASK;
        mem_file_put_word(file, at, flagged(file, refs, mem_file_word(file, at)));
        for (uint64_t e = l2; l2 && e < l2 + cluster; e += step)
            mem_file_put_word(file, e, flagged(file, refs, mem_file_word(file, e)));
    }
}

static void settle(MemFile *file)
{
    unsigned order;
    uint64_t n, i;
    new_refcount_structures(file);
    g_autofree uint32_t *refs = judge_references(file, &n);
    for (uint64_t c = 0; c < n; c++) {
        uint8_t *counts = counts_of(file, c, &order, &i);
        qc_refcount_set(counts, order, i, refs[c]);
    }
    set_flags(file, refs);
}

/* ---- the active disk -------------------------------------------------------------------- */

void craft_resize(MemFile *file, uint64_t size)
{
    QcDiskHeader h = header_of(file);
    h.size = be64_make(size);
    put_header(file, &h);
}

/* Where the L2 entry of a guest cluster of the active disk is. */
static uint64_t entry_of(const MemFile *file, uint64_t guest)
{
    uint64_t step = is_extended(file) ? 16 : 8, per_table = (UINT64_C(1) << bits_of(file)) / step;
    uint64_t l1 = be64_get(header_of(file).l1_table_offset) + guest / per_table * 8;
    uint64_t l2 = mem_file_word(file, l1) & QC_OFFSET_MASK;
    g_assert(l2);
    return l2 + guest % per_table * step;
}

static size_t deflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out, size_t room)
{
    z_stream z = {
        .next_in = (Bytef *)in, .avail_in = (uInt)in_len, .next_out = out, .avail_out = (uInt)room};
    if (deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK ||
        deflate(&z, Z_FINISH) != Z_STREAM_END)
        g_error("deflate");
    deflateEnd(&z);
    return room - z.avail_out;
}

void craft_compress(MemFile *file, uint64_t first, unsigned n)
{
    size_t cluster = (size_t)1 << bits_of(file), len = 3; /* not aligned to anything */
    g_autofree uint8_t *out = g_malloc(2 * cluster);
    uint64_t at = append(file, (uint64_t)n * 2 * cluster);
    unsigned x = 62 - (bits_of(file) - 8);
    for (unsigned i = 0; i < n; i++) {
        uint64_t entry = entry_of(file, first + i), host = at + len;
        uint64_t data = mem_file_word(file, entry) & QC_OFFSET_MASK;
        size_t size = deflate_cluster(file->data->data + data, cluster, out, 2 * cluster);
        uint64_t sectors = (host % 512 + size + 511) / 512 - 1;
        memcpy(file->data->data + host, out, size);
        mem_file_put_word(file, entry, QC_COMPRESSED | sectors << x | host);
        if (is_extended(file)) /* a compressed cluster has no subclusters */
            mem_file_put_word(file, entry + 8, 0);
        len += size;
    }
    g_byte_array_set_size(file->data, (guint)((at + len + cluster - 1) / cluster * cluster));
    settle(file);
}

void craft_subclusters(MemFile *file, uint64_t first, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t allocated = i % 3 == 0 ? 0x0000ffff : 0xff00ff00, zero = 0x00010000 << i % 8;
        mem_file_put_word(file, entry_of(file, first + i) + 8,
                          allocated | (zero & ~allocated) << 32);
    }
    settle(file);
}

void craft_table_twice(MemFile *file)
{
    QcDiskHeader h = header_of(file);
    uint64_t l1 = be64_get(h.l1_table_offset), last = l1 + (be32_get(h.l1_size) - 1) * UINT64_C(8);
    g_assert(last > l1 && mem_file_word(file, last) == 0);
    mem_file_put_word(file, last, mem_file_word(file, l1));
    settle(file);
}

/* ---- snapshots -------------------------------------------------------------------------- */

static uint64_t snapshot_at(const MemFile *file, unsigned index)
{
    uint64_t at = be64_get(header_of(file).snapshots_offset);
    for (unsigned i = 0; i < index; i++) {
        QcDiskSnapshot d;
        memcpy(&d, file->data->data + at, sizeof(d));
        at += sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.id_size) + be16_get(d.name_size);
        at = (at + 7) & ~UINT64_C(7);
    }
    return at;
}

/* A copy of an L1 table with one entry more. */
static uint64_t longer_table(MemFile *file, uint64_t l1, uint32_t n, uint64_t entry)
{
    uint64_t at = append(file, (n + UINT64_C(1)) * 8);
    memcpy(file->data->data + at, file->data->data + l1, n * 8);
    mem_file_put_word(file, at + n * 8, entry);
    return at;
}

/* The VM state is n clusters behind the disk: one L2 table, in one more L1 entry. */
void craft_vm_state(MemFile *file, unsigned snapshot, unsigned n, bool active)
{
    QcDiskHeader h = header_of(file);
    QcDiskSnapshot d;
    QcDiskSnapshotExtra extra;
    uint64_t cluster = UINT64_C(1) << bits_of(file), entry = snapshot_at(file, snapshot);
    uint64_t l2 = append(file, cluster), data = append(file, n * cluster);
    memset(file->data->data + data, 0x5a, n * cluster);
    for (unsigned i = 0; i < n; i++) {
        mem_file_put_word(file, l2 + i * (is_extended(file) ? 16u : 8u), data + i * cluster);
        if (is_extended(file))
            mem_file_put_word(file, l2 + i * 16 + 8, UINT32_MAX);
    }
    memcpy(&d, file->data->data + entry, sizeof(d));
    memcpy(&extra, file->data->data + entry + sizeof(d), sizeof(extra));
    uint32_t l1_size = be32_get(d.l1_size);
    d.l1_table_offset = be64_make(longer_table(file, be64_get(d.l1_table_offset), l1_size, l2));
    d.l1_size = be32_make(l1_size + 1);
    d.vm_state_size = be32_make((uint32_t)(n * cluster - 100));
    extra.vm_state_size = be64_make(n * cluster - 100);
    memcpy(file->data->data + entry, &d, sizeof(d));
    memcpy(file->data->data + entry + sizeof(d), &extra, sizeof(extra));
    if (active) {
        uint32_t size = be32_get(h.l1_size);
        h.l1_table_offset = be64_make(longer_table(file, be64_get(h.l1_table_offset), size, l2));
        h.l1_size = be32_make(size + 1);
        put_header(file, &h);
    }
    settle(file);
}

static size_t entry_size(unsigned name_len)
{
    return (sizeof(QcDiskSnapshot) + sizeof(QcDiskSnapshotExtra) + 5 + name_len + 7) & ~(size_t)7;
}

/* An entry like model, with this number for an id and a name. */
static void put_snapshot(MemFile *file, uint64_t at, const QcDiskSnapshot *model,
                         const QcDiskSnapshotExtra *extra, unsigned number, unsigned name_len)
{
    QcDiskSnapshot d = *model;
    uint8_t *to = file->data->data + at;
    g_autofree char *text = g_strdup_printf("%05u%0*u", number, (int)name_len, number);
    d.id_size = be16_make(5);
    d.name_size = be16_make((uint16_t)name_len);
    d.extra_data_size = be32_make(sizeof(*extra));
    memcpy(to, &d, sizeof(d));
    memcpy(to + sizeof(d), extra, sizeof(*extra));
    memcpy(to + sizeof(d) + sizeof(*extra), text, 5 + name_len);
}

void craft_snapshots(MemFile *file, unsigned n, unsigned name_len, bool own_tables)
{
    QcDiskHeader h = header_of(file);
    QcDiskSnapshot model;
    QcDiskSnapshotExtra extra;
    uint64_t first = snapshot_at(file, 0), table = append(file, n * entry_size(name_len));
    memcpy(&model, file->data->data + first, sizeof(model));
    memcpy(&extra, file->data->data + first + sizeof(model), sizeof(extra));
    uint64_t l1 = be64_get(model.l1_table_offset), bytes = be32_get(model.l1_size) * UINT64_C(8);
    for (unsigned i = 0; i < n; i++) {
        uint64_t own = own_tables ? append(file, bytes) : l1;
        if (own_tables)
            memcpy(file->data->data + own, file->data->data + l1, bytes);
        model.l1_table_offset = be64_make(own);
        put_snapshot(file, table + i * entry_size(name_len), &model, &extra, i + 1, name_len);
    }
    h.snapshots_offset = be64_make(table);
    h.nb_snapshots = be32_make(n);
    put_header(file, &h);
    settle(file);
}

/* ---- the rest --------------------------------------------------------------------------- */

/* Its first cluster of bits is stored, for the rest the table says that they are all set. */
void craft_bitmap(MemFile *file)
{
    enum { GRANULARITY_BITS = 9, ENTRIES_MAX = 512 };
    static const char name[8] = "changes";
    uint64_t cluster = UINT64_C(1) << bits_of(file), size = be64_get(header_of(file).size);
    uint64_t bytes = ((size >> GRANULARITY_BITS) + 7) / 8, n = (bytes + cluster - 1) / cluster;
    uint64_t directory = append(file, cluster), table = append(file, n * 8);
    uint64_t data = append(file, cluster);
    g_assert(n > 0 && n < ENTRIES_MAX);
    memset(file->data->data + data, 0x33, (size_t)MIN(cluster, bytes));
    mem_file_put_word(file, table, data);
    for (uint64_t i = 1; i < n; i++)
        mem_file_put_word(file, table + i * 8, 1);
    QcDiskBitmapEntry d = {.table_offset = be64_make(table),
                           .table_size = be32_make((uint32_t)n),
                           .type = 1,
                           .granularity_bits = GRANULARITY_BITS,
                           .name_size = be16_make(7)};
    memcpy(file->data->data + directory, &d, sizeof(d));
    memcpy(file->data->data + directory + sizeof(d), name, 7);
    QcDiskExtension ext = {be32_make(QC_EXT_BITMAPS), be32_make(sizeof(QcDiskBitmaps))};
    QcDiskBitmaps b = {.nb_bitmaps = be32_make(1),
                       .directory_size = be64_make(sizeof(d) + sizeof(name)),
                       .directory_offset = be64_make(directory)};
    QcDiskHeader h = header_of(file);
    uint64_t at = be32_get(h.header_length);
    memcpy(file->data->data + at, &ext, sizeof(ext));
    memcpy(file->data->data + at + sizeof(ext), &b, sizeof(b));
    h.autoclear_features = be64_make(QC_AUTOCLEAR_BITMAPS);
    put_header(file, &h);
    settle(file);
}

/* The last guest cluster that the active disk has, as a host cluster. */
static uint64_t some_data(const MemFile *file)
{
    QcDiskHeader h = header_of(file);
    uint64_t cluster = UINT64_C(1) << bits_of(file), host = 0;
    for (uint64_t i = 0; i < (be64_get(h.size) + cluster - 1) / cluster; i++) {
        uint64_t span = cluster / (is_extended(file) ? 16 : 8);
        uint64_t l2 =
            mem_file_word(file, be64_get(h.l1_table_offset) + i / span * 8) & QC_OFFSET_MASK;
        uint64_t entry = l2 ? mem_file_word(file, entry_of(file, i)) : 0;
        if (entry & QC_OFFSET_MASK && !(entry & QC_COMPRESSED))
            host = (entry & QC_OFFSET_MASK) / cluster;
    }
    return host;
}

void craft_leaks(MemFile *file, unsigned n)
{
    uint64_t cluster = UINT64_C(1) << bits_of(file);
    uint64_t at = append(file, n * cluster) / cluster;
    settle(file);
    for (unsigned i = 0; i < n; i++)
        add_to_count(file, at + i, 1);
    uint64_t l1 = be64_get(header_of(file).l1_table_offset) / cluster;
    add_to_count(file, l1, 1);
}

/* That of the L1 table; or, where a count cannot be 2, that of one more cluster. */
void craft_leak(MemFile *file)
{
    unsigned order;
    uint64_t i, cluster = be64_get(header_of(file).l1_table_offset) >> bits_of(file);
    counts_of(file, cluster, &order, &i);
    if (order == 0)
        cluster = append(file, 1) >> bits_of(file);
    add_to_count(file, cluster, 1);
}

void craft_lazy(MemFile *file, bool dirty)
{
    QcDiskHeader h = header_of(file);
    h.compatible_features = be64_make(QC_COMPAT_LAZY);
    if (dirty)
        h.incompatible_features = be64_make(be64_get(h.incompatible_features) | QC_INCOMPAT_DIRTY);
    put_header(file, &h);
    if (!dirty)
        return;
    unsigned order;
    uint64_t i, cluster = some_data(file);
    uint8_t *counts = counts_of(file, cluster, &order, &i);
    qc_refcount_set(counts, order, i, 0); /* in use, but counted as free */
    uint64_t l1 = be64_get(h.l1_table_offset) >> bits_of(file);
    add_to_count(file, l1, 1);
}
