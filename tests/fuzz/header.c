/* Fuzz target: the header and its extensions. The input is the start of a file. */
#include "header.h"
#include "fuzz.h"
#include <errno.h>
#include <string.h>

static void check_fixed_part(const QcHeader *h)
{
    const QcLayout *l = &h->layout;
    fuzz_require(l->cluster_bits >= QC_MIN_CLUSTER_BITS && l->cluster_bits <= QC_MAX_CLUSTER_BITS);
    fuzz_require(l->refcount_order <= 6);
    fuzz_require(h->size <= QC_MAX_DISK_SIZE);
    fuzz_require(h->l1_entries <= QC_MAX_L1_BYTES / 8);
    fuzz_require(qc_l1_entries_for(l, h->size) <= h->l1_entries);
    fuzz_require(h->reftable_clusters > 0);
    fuzz_require((uint64_t)h->reftable_clusters << l->cluster_bits <= QC_MAX_REFCOUNT_TABLE_BYTES);
    fuzz_require(h->n_snapshots <= QC_MAX_SNAPSHOTS);
    fuzz_require(h->header_length <= qc_cluster_size(l));
    uint64_t offsets = h->l1_offset | h->reftable_offset | h->snapshots_offset;
    fuzz_require(qc_cluster_aligned(l, offsets) && offsets >> 56 == 0);
}

static void check_inside(const QcHeader *h, uint64_t at, uint64_t len, size_t size)
{
    fuzz_require(at + len <= size && at + len <= qc_cluster_size(&h->layout));
}

/* With the whole first cluster at hand, nothing can be missing. */
static void decode_whole_cluster(const QcHeader *h, const uint8_t *data, size_t size)
{
    QcHeader again = *h;
    size_t cluster = (size_t)qc_cluster_size(&h->layout);
    fuzz_require(size < cluster);
    if (h->layout.cluster_bits > 12) /* slow, and no different */
        return;
    g_autofree uint8_t *whole = g_malloc0(cluster);
    memcpy(whole, data, size);
    fuzz_require(qc_header_decode_extensions(&again, whole, cluster, NULL) != -ENODATA);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    QcHeader h;
    int err = qc_header_decode(data, size, &h, &error);
    fuzz_check_error(err, error);
    if (err < 0)
        return;
    check_fixed_part(&h);

    err = qc_header_decode_extensions(&h, data, size, &error);
    fuzz_check_error(err, error);
    if (err == -ENODATA)
        decode_whole_cluster(&h, data, size);
    if (err < 0)
        return;
    check_inside(&h, h.backing_format_at, h.backing_format_len, size);
    check_inside(&h, h.data_file_at, h.data_file_len, size);
    if (h.backing_offset)
        check_inside(&h, h.backing_offset, h.backing_size, size);
}
