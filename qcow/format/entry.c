/* entry.c - see entry.h. */
#include "entry.h"
#include <errno.h>

static const QcCluster bad = {.kind = QC_CLUSTER_BAD};

/* §"Compressed Clusters Descriptor". */
static QcCluster decode_compressed(const QcLayout *l, uint64_t word, uint64_t bitmap)
{
    unsigned x = 62 - (l->cluster_bits - 8);
    uint64_t offset = word & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = ((word & ~(QC_COPIED | QC_COMPRESSED)) >> x) + 1;
    if (offset < qc_cluster_size(l) || offset >> 56) /* in the header: commands change it */
        return bad;
    return (QcCluster){
        .kind = QC_CLUSTER_COMPRESSED,
        .copied = word & QC_COPIED, /* wrong, but harmless to a reader */
        .host_offset = offset,
        .host_length = (uint32_t)(sectors * QC_SECTOR - offset % QC_SECTOR),
        .has_bitmap = bitmap != 0,
    };
}

/* §"Extended L2 Entries". */
static QcCluster decode_extended(const QcLayout *l, uint64_t word, uint64_t bitmap)
{
    uint64_t offset = word & QC_OFFSET_MASK;
    uint32_t allocated = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
    if (word & QC_ZERO || allocated & zero || (allocated && !offset) ||
        !qc_cluster_aligned(l, offset))
        return bad;
    return (QcCluster){
        .kind = offset ? QC_CLUSTER_DATA : QC_CLUSTER_UNALLOCATED,
        .copied = word & QC_COPIED,
        .host_offset = offset,
        .has_subclusters = true,
        .subclusters_allocated = allocated,
        .subclusters_zero = zero,
    };
}

QcCluster qc_cluster_decode(const QcLayout *l, const uint8_t *raw)
{
    uint64_t word = be64_load(raw), bitmap = l->extended_l2 ? be64_load(raw + 8) : 0;
    if (word & QC_COMPRESSED)
        return decode_compressed(l, word, bitmap);
    if (word & QC_L2_RESERVED)
        return bad;
    if (l->extended_l2)
        return decode_extended(l, word, bitmap);

    uint64_t offset = word & QC_OFFSET_MASK;
    bool zero = word & QC_ZERO;
    if ((zero && l->version < 3) || !qc_cluster_aligned(l, offset))
        return bad;
    return (QcCluster){
        .kind = zero     ? QC_CLUSTER_ZERO
                : offset ? QC_CLUSTER_DATA
                         : QC_CLUSTER_UNALLOCATED,
        .copied = word & QC_COPIED,
        .host_offset = offset,
    };
}

void qc_cluster_set_copied(uint8_t *raw, bool copied)
{
    uint64_t word = be64_load(raw);
    be64_store(raw, copied ? word | QC_COPIED : word & ~QC_COPIED);
}

void qc_cluster_encode_data(const QcLayout *l, uint8_t *raw, uint64_t host_offset)
{
    be64_store(raw, host_offset | QC_COPIED);
    if (l->extended_l2)
        be64_store(raw + 8, UINT32_MAX);
}

void qc_cluster_span(const QcLayout *l, const QcCluster *c, uint64_t *ret_first,
                     uint64_t *ret_count)
{
    uint64_t first = c->host_offset >> l->cluster_bits;
    *ret_first = first;
    if (c->kind == QC_CLUSTER_BAD || c->host_offset == 0)
        *ret_count = 0;
    else if (c->kind == QC_CLUSTER_COMPRESSED)
        *ret_count = ((c->host_offset + c->host_length - 1) >> l->cluster_bits) - first + 1;
    else
        *ret_count = 1;
}

int qc_l1_decode(const QcLayout *l, uint64_t entry, uint64_t *ret_offset)
{
    uint64_t offset = entry & QC_OFFSET_MASK;
    if (entry & QC_L1_RESERVED || !qc_cluster_aligned(l, offset))
        return -EUCLEAN;
    *ret_offset = offset;
    return 0;
}

int qc_l1_decode_strictly(const QcLayout *l, uint64_t entry, uint64_t *ret_offset)
{
    return entry == QC_COPIED ? -EUCLEAN : qc_l1_decode(l, entry, ret_offset);
}
