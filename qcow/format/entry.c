/* entry.c - see entry.h. */
#include "entry.h"
#include <errno.h>

/*
 * These fill in what is bad so far, field by field. A struct that is put together elsewhere and
 * copied takes several times as long, and commands decode millions.
 */

/* §"Compressed Clusters Descriptor". */
static inline void decode_compressed(const QcLayout *l, uint64_t word, uint64_t bitmap,
                                     QcCluster *ret)
{
    unsigned x = 62 - (l->cluster_bits - 8);
    uint64_t offset = word & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = ((word & ~(QC_COPIED | QC_COMPRESSED)) >> x) + 1;
    if (offset < qc_cluster_size(l) || offset >> 56) /* in the header: commands change it */
        return;
    ret->kind = QC_CLUSTER_COMPRESSED;
    ret->copied = word & QC_COPIED; /* wrong, but harmless to a reader */
    ret->host_offset = offset;
    ret->host_length = (uint32_t)(sectors * QC_SECTOR - offset % QC_SECTOR);
    ret->has_bitmap = bitmap != 0;
}

/* §"Extended L2 Entries". */
static inline void decode_extended(const QcLayout *l, uint64_t word, uint64_t bitmap,
                                   QcCluster *ret)
{
    uint64_t offset = word & QC_OFFSET_MASK;
    uint32_t allocated = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
    if (word & QC_ZERO || allocated & zero || (allocated && !offset) ||
        !qc_cluster_aligned(l, offset))
        return;
    ret->kind = offset ? QC_CLUSTER_DATA : QC_CLUSTER_UNALLOCATED;
    ret->copied = word & QC_COPIED;
    ret->host_offset = offset;
    ret->has_subclusters = true;
    ret->subclusters_allocated = allocated;
    ret->subclusters_zero = zero;
}

static inline void decode_standard(const QcLayout *l, uint64_t word, QcCluster *ret)
{
    uint64_t offset = word & QC_OFFSET_MASK;
    bool zero = word & QC_ZERO;
    if ((zero && l->version < 3) || !qc_cluster_aligned(l, offset))
        return;
    ret->kind = zero ? QC_CLUSTER_ZERO : offset ? QC_CLUSTER_DATA : QC_CLUSTER_UNALLOCATED;
    ret->copied = word & QC_COPIED;
    ret->host_offset = offset;
}

void qc_cluster_decode(const QcLayout *l, const uint8_t *raw, QcCluster *ret)
{
    uint64_t word = be64_load(raw), bitmap = l->extended_l2 ? be64_load(raw + 8) : 0;
    *ret = (QcCluster){.kind = QC_CLUSTER_BAD};
    if (word & QC_COMPRESSED)
        decode_compressed(l, word, bitmap, ret);
    else if (word & QC_L2_RESERVED)
        return;
    else if (l->extended_l2)
        decode_extended(l, word, bitmap, ret);
    else
        decode_standard(l, word, ret);
}

/* How many of n plain entries are a row, if the first is valid. */
static inline uint64_t row_length(const QcLayout *l, const uint8_t *raw, uint64_t n)
{
    uint64_t word = be64_load(raw), row = 1;
    uint64_t step = word & QC_OFFSET_MASK ? qc_cluster_size(l) : 0;
    for (; row < n; row++) {
        uint64_t next = be64_load(raw + row * sizeof(be64));
        if (next != word + row * step || (next ^ word) & ~QC_OFFSET_MASK) /* or past any offset */
            break;
    }
    return row;
}

uint64_t qc_cluster_decode_row(const QcLayout *l, const uint8_t *raw, uint64_t n, QcCluster *ret)
{
    qc_cluster_decode(l, raw, ret);
    bool plain = ret->kind < QC_CLUSTER_COMPRESSED && !l->extended_l2;
    return plain ? row_length(l, raw, n) : 1;
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
