/* judge.c - see judge.h. */
#include "judge.h"
#include "format.h"
#include "qcow.h"
#include <string.h>

typedef struct Judge {
    const uint8_t *bytes;
    uint64_t len;
    QcDiskHeader h;
    unsigned bits, order;
    uint64_t cluster, n; /* size and number of clusters */
    uint32_t *refs;      /* as counted */
    GString *wrong;
} Judge;

static uint64_t word(const Judge *j, uint64_t at)
{
    be64 v;
    if (at + 8 > j->len) {
        g_string_append_printf(j->wrong, "table at %#lx past the end; ", (unsigned long)at);
        return 0;
    }
    memcpy(&v, j->bytes + at, 8);
    return be64_get(v);
}

static void count(Judge *j, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return;
    for (uint64_t c = offset >> j->bits; c <= (offset + bytes - 1) >> j->bits; c++) {
        if (c < j->n)
            j->refs[c]++;
        else
            g_string_append_printf(j->wrong, "cluster %lu past the end; ", (unsigned long)c);
    }
}

static uint64_t stored(Judge *j, uint64_t cluster)
{
    uint64_t per_block = j->cluster * 8 >> j->order;
    uint64_t table = be64_get(j->h.refcount_table_offset);
    uint64_t entries = (uint64_t)be32_get(j->h.refcount_table_clusters) * j->cluster / 8;
    if (cluster / per_block >= entries)
        return 0;
    uint64_t block = word(j, table + cluster / per_block * 8);
    if (!block || block + j->cluster > j->len)
        return 0;
    uint64_t i = cluster % per_block, bit = i << j->order, value = 0;
    const uint8_t *at = j->bytes + block + bit / 8;
    if (j->order < 3)
        return (*at >> (bit % 8)) & ((1u << (1u << j->order)) - 1);
    for (unsigned b = 0; b < 1u << (j->order - 3); b++)
        value = value << 8 | at[b];
    return value;
}

static bool extended(const Judge *j)
{
    return be32_get(j->h.version) > 2 &&
           (be64_get(j->h.incompatible_features) & QC_INCOMPAT_EXTENDED_L2);
}

/* Count what an entry refers to. */
static void count_entry(Judge *j, uint64_t entry)
{
    if (entry & QC_COMPRESSED) {
        unsigned x = 62 - (j->bits - 8);
        uint64_t at = entry & ((UINT64_C(1) << x) - 1);
        uint64_t sectors = ((entry & ~(QC_COMPRESSED | QC_COPIED)) >> x) + 1;
        count(j, at & ~UINT64_C(511), sectors * 512);
    } else if (entry & QC_OFFSET_MASK) {
        count(j, entry & QC_OFFSET_MASK, 1);
    }
}

/* Visit each L2 entry of a tree: to count it, or to compare its flag. */
static void visit_tree(Judge *j, uint64_t l1_at, uint32_t n, bool flags)
{
    uint64_t step = extended(j) ? 16 : 8;
    if (!flags)
        count(j, l1_at, (uint64_t)n * 8);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t l1 = word(j, l1_at + i * 8u), l2 = l1 & QC_OFFSET_MASK;
        if (!l2)
            continue;
        if (!flags)
            count(j, l2, j->cluster);
        else if ((l1 >> 63) != (j->refs[l2 >> j->bits] == 1))
            g_string_append_printf(j->wrong, "COPIED of L1 entry %u; ", i);
        for (uint64_t at = l2; at < l2 + j->cluster; at += step) {
            uint64_t e = word(j, at), off = e & QC_OFFSET_MASK;
            if (!flags)
                count_entry(j, e);
            else if (e & QC_COMPRESSED ? e >> 63
                                       : off && (e >> 63) != (j->refs[off >> j->bits] == 1))
                g_string_append_printf(j->wrong, "COPIED of L2 entry at %#lx; ", (unsigned long)at);
        }
    }
}

static void count_snapshots(Judge *j)
{
    uint64_t start = be64_get(j->h.snapshots_offset), at = start;
    for (uint32_t i = 0; i < be32_get(j->h.nb_snapshots); i++) {
        QcDiskSnapshot d;
        if (at + sizeof(d) > j->len) {
            g_string_append(j->wrong, "snapshot table past the end; ");
            return;
        }
        memcpy(&d, j->bytes + at, sizeof(d));
        at += sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.id_size) + be16_get(d.name_size);
        at = (at + 7) & ~UINT64_C(7);
        visit_tree(j, be64_get(d.l1_table_offset), be32_get(d.l1_size), false);
    }
    count(j, start, at - start);
}

static void count_refcounts(Judge *j)
{
    uint64_t table = be64_get(j->h.refcount_table_offset);
    uint64_t bytes = (uint64_t)be32_get(j->h.refcount_table_clusters) * j->cluster;
    count(j, table, bytes);
    for (uint64_t at = table; at < table + bytes; at += 8)
        if (word(j, at))
            count(j, word(j, at), j->cluster);
}

char *judge_check(const MemFile *file)
{
    Judge j = {.bytes = file->data->data, .len = file->data->len, .wrong = g_string_new(NULL)};
    memcpy(&j.h, j.bytes, sizeof(j.h));
    j.bits = be32_get(j.h.cluster_bits);
    j.order = be32_get(j.h.version) == 2 ? 4 : be32_get(j.h.refcount_order);
    j.cluster = UINT64_C(1) << j.bits;
    j.n = (j.len + j.cluster - 1) >> j.bits;
    j.refs = g_new0(uint32_t, j.n);

    uint64_t l1 = be64_get(j.h.l1_table_offset);
    uint32_t l1_size = be32_get(j.h.l1_size);
    count(&j, 0, 1);
    count_refcounts(&j);
    visit_tree(&j, l1, l1_size, false);
    count_snapshots(&j);
    visit_tree(&j, l1, l1_size, true);
    for (uint64_t c = 0; c < j.n; c++)
        if (stored(&j, c) != j.refs[c])
            g_string_append_printf(j.wrong, "cluster %lu: refcount %lu, references %u; ",
                                   (unsigned long)c, (unsigned long)stored(&j, c), j.refs[c]);
    g_free(j.refs);
    bool clean = j.wrong->len == 0;
    char *text = g_string_free(j.wrong, FALSE);
    if (clean)
        g_clear_pointer(&text, g_free);
    return text;
}

static bool digest_view(QcView *view, const char *name, GString *out)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree uint8_t *buf = g_malloc(1 << 20);
    uint64_t size = qc_view_size(view);
    for (uint64_t at = 0; at < size;) {
        ssize_t n = qc_view_read(view, buf, 1 << 20, at);
        if (n <= 0)
            return false;
        g_checksum_update(sum, buf, n);
        at += (uint64_t)n;
    }
    g_string_append_printf(out, "%s %lu %s\n", name, (unsigned long)size,
                           g_checksum_get_string(sum));
    return true;
}

char *judge_digest(MemFile *file)
{
    g_autoptr(QcCache) cache = qc_cache_new(4 << 20);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    if (qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL) < 0)
        return NULL;
    qc_chain_open(NULL, image, cache, &chain);
    bool ok = digest_view(qc_chain_view(chain, 0), "disk", out);
    for (unsigned i = 0; i < qc_image_info(image)->n_snapshots && ok; i++) {
        g_autoptr(QcView) view = NULL;
        ok = qc_chain_snapshot_view(chain, i, &view) == 0 &&
             digest_view(view, qc_image_info(image)->snapshots[i].name, out);
    }
    return ok ? g_strdup(out->str) : NULL;
}
