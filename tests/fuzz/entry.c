/* Fuzz target: L1 and L2 entries. The input is a layout (two bytes) and an entry (sixteen). */
#include "entry.h"
#include "fuzz.h"
#include <string.h>

static QcLayout layout_of(FuzzBytes *in)
{
    uint64_t kind = fuzz_take(in, 1);
    QcLayout l = {.version = kind & 1 ? 3 : 2, .refcount_order = 4};
    l.extended_l2 = (kind & 3) == 3;
    unsigned least = l.extended_l2 ? QC_MIN_EXTENDED_L2_BITS : QC_MIN_CLUSTER_BITS;
    l.cluster_bits = least + (unsigned)(fuzz_take(in, 1) % (QC_MAX_CLUSTER_BITS - least + 1));
    return l;
}

static void check_cluster(const QcLayout *l, const QcCluster *c)
{
    uint64_t first, count;
    qc_cluster_span(l, c, &first, &count);
    fuzz_require(c->host_offset >> 56 == 0);
    fuzz_require((count > 0) == (c->host_offset > 0 && c->kind != QC_CLUSTER_BAD));
    fuzz_require((c->host_length > 0) == (c->kind == QC_CLUSTER_COMPRESSED));
    if (c->kind == QC_CLUSTER_COMPRESSED) {
        fuzz_require(c->host_length <= 2 * qc_cluster_size(l));
        fuzz_require(count <= 3);
    } else {
        fuzz_require(count <= 1 && qc_cluster_aligned(l, c->host_offset));
    }
    if (c->kind == QC_CLUSTER_DATA)
        fuzz_require(c->host_offset > 0);
    if (c->has_subclusters) {
        fuzz_require((c->subclusters_allocated & c->subclusters_zero) == 0);
        fuzz_require(c->host_offset > 0 || c->subclusters_allocated == 0);
    }
}

/* The flag changes, nothing else does. */
static void check_copied(const QcLayout *l, const uint8_t *raw, bool copied)
{
    uint8_t changed[16];
    memcpy(changed, raw, sizeof(changed));
    qc_cluster_set_copied(changed, copied);
    QcCluster a, b;
    qc_cluster_decode(l, raw, &a);
    qc_cluster_decode(l, changed, &b);
    fuzz_require(a.kind == b.kind && a.host_offset == b.host_offset);
    fuzz_require(a.host_length == b.host_length);
    fuzz_require(a.subclusters_allocated == b.subclusters_allocated);
    fuzz_require(a.subclusters_zero == b.subclusters_zero);
    fuzz_require(b.kind == QC_CLUSTER_BAD || b.copied == copied);
}

static void check_encode(const QcLayout *l, uint64_t host_offset)
{
    uint8_t raw[16] = {0};
    qc_cluster_encode_data(l, raw, host_offset);
    QcCluster c;
    qc_cluster_decode(l, raw, &c);
    fuzz_require(c.kind == QC_CLUSTER_DATA && c.copied && c.host_offset == host_offset);
    fuzz_require(!c.has_subclusters || c.subclusters_allocated == UINT32_MAX);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    QcLayout l = layout_of(&in);
    be64 raw[2] = {be64_make(fuzz_take(&in, 8)), be64_make(fuzz_take(&in, 8))};
    QcCluster c;
    qc_cluster_decode(&l, raw[0].b, &c);
    check_cluster(&l, &c);
    check_copied(&l, raw[0].b, true);
    check_copied(&l, raw[0].b, false);

    uint64_t offset = UINT64_MAX;
    if (qc_l1_decode(&l, be64_get(raw[0]), &offset) < 0)
        fuzz_require(offset == UINT64_MAX, "touched on failure");
    else
        fuzz_require(qc_cluster_aligned(&l, offset) && offset >> 56 == 0);
    if (c.kind == QC_CLUSTER_DATA)
        check_encode(&l, c.host_offset);
}
