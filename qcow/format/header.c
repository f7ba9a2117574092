/* header.c - see header.h. §"Header", "Feature bits", "Header extensions". */
#include "header.h"
#include "error.h"
#include <string.h>

static void decode_v2(const QcDiskHeader *d, QcHeader *h)
{
    h->layout.refcount_order = QC_V2_REFCOUNT_ORDER;
    h->header_length = QC_V2_HEADER_LENGTH;
    h->size = be64_get(d->size);
    h->crypt_method = be32_get(d->crypt_method);
    h->l1_entries = be32_get(d->l1_size);
    h->l1_offset = be64_get(d->l1_table_offset);
    h->reftable_offset = be64_get(d->refcount_table_offset);
    h->reftable_clusters = be32_get(d->refcount_table_clusters);
    h->n_snapshots = be32_get(d->nb_snapshots);
    h->snapshots_offset = be64_get(d->snapshots_offset);
    h->backing_offset = be64_get(d->backing_file_offset);
    h->backing_size = h->backing_offset ? be32_get(d->backing_file_size) : 0;
}

/* What version 3 adds. */
static int decode_v3(const QcDiskHeader *d, QcHeader *h, GError **error)
{
    h->incompatible = be64_get(d->incompatible_features);
    h->compatible = be64_get(d->compatible_features);
    h->autoclear = be64_get(d->autoclear_features);
    h->layout.refcount_order = be32_get(d->refcount_order);
    h->header_length = be32_get(d->header_length);
    h->layout.extended_l2 = h->incompatible & QC_INCOMPAT_EXTENDED_L2;

    if (h->header_length < QC_V3_HEADER_LENGTH || h->header_length % 8 ||
        h->header_length > qc_cluster_size(&h->layout))
        return qc_fail(error, -EINVAL, "the header's length, %u, is not valid", h->header_length);
    if (h->header_length > offsetof(QcDiskHeader, compression_type))
        h->compression_type = d->compression_type;
    if (h->layout.refcount_order > QC_MAX_REFCOUNT_ORDER)
        return qc_fail(error, -EINVAL, "the refcount order, %u, is over %u",
                       h->layout.refcount_order, QC_MAX_REFCOUNT_ORDER);
    uint64_t unknown = h->incompatible & ~QC_INCOMPAT_KNOWN;
    if (unknown)
        return qc_fail(error, -EOPNOTSUPP,
                       "unknown incompatible features: %#" G_GINT64_MODIFIER "x", unknown);
    bool other_compression = h->incompatible & QC_INCOMPAT_COMPRESSION;
    if (h->compression_type > QC_COMPRESSION_ZSTD)
        return qc_fail(error, -EOPNOTSUPP, "unknown compression type %u", h->compression_type);
    if (other_compression != (h->compression_type != QC_COMPRESSION_ZLIB))
        return qc_fail(error, -EINVAL, "the compression type contradicts the feature bit");
    if (h->layout.extended_l2 && h->layout.cluster_bits < QC_MIN_EXTENDED_L2_BITS)
        return qc_fail(error, -EINVAL, "extended L2 entries need clusters of 16 KiB or more");
    return 0;
}

static int check_tables(const QcHeader *h, GError **error)
{
    const QcLayout *l = &h->layout;
    if (h->size > QC_MAX_DISK_SIZE)
        return qc_fail(error, -EINVAL, "the virtual size, %" G_GUINT64_FORMAT ", is too large",
                       h->size);
    if (h->l1_entries > QC_MAX_L1_BYTES / sizeof(be64))
        return qc_fail(error, -EINVAL, "the L1 table, %u entries, is too large", h->l1_entries);
    if (!qc_offset_is_valid(l, h->l1_offset))
        return qc_fail(error, -EINVAL, "the L1 table's offset is not valid");
    if (qc_l1_entries_for(l, h->size) > h->l1_entries)
        return qc_fail(error, -EINVAL, "the L1 table is too small for the disk");
    if (h->reftable_clusters == 0 ||
        h->reftable_clusters > (unsigned)QC_MAX_REFCOUNT_TABLE_BYTES >> l->cluster_bits)
        return qc_fail(error, -EINVAL, "the refcount table's size, %u clusters, is not valid",
                       h->reftable_clusters);
    if (!qc_offset_is_valid(l, h->reftable_offset))
        return qc_fail(error, -EINVAL, "the refcount table's offset is not valid");
    if (h->n_snapshots > QC_MAX_SNAPSHOTS)
        return qc_fail(error, -EINVAL, "%u snapshots are too many", h->n_snapshots);
    if (!qc_offset_is_valid(l, h->snapshots_offset))
        return qc_fail(error, -EINVAL, "the snapshot table's offset is not valid");
    return 0;
}

static int check_backing(const QcHeader *h, GError **error)
{
    if (h->backing_offset == 0)
        return 0;
    uint64_t cluster = qc_cluster_size(&h->layout);
    if (h->backing_size > QC_MAX_BACKING_NAME || h->backing_offset > cluster ||
        h->backing_size > cluster - h->backing_offset || h->backing_offset < h->header_length)
        return qc_fail(error, -EINVAL, "the backing file's name does not lie in the first cluster");
    return 0;
}

int qc_header_decode(const uint8_t *buf, size_t len, QcHeader *ret, GError **error)
{
    QcDiskHeader disk = {0};
    QcHeader h = {0};
    memcpy(&disk, buf, MIN(len, sizeof(disk)));

    if (be32_get(disk.magic) != QCOW_MAGIC)
        return qc_fail(error, -EINVAL, "not a qcow2 image");
    if (len < QC_V2_HEADER_LENGTH)
        return qc_fail(error, -EINVAL, "the header is cut off");
    h.layout.version = be32_get(disk.version);
    if (h.layout.version != 2 && h.layout.version != 3)
        return qc_fail(error, -EOPNOTSUPP, "qcow version %u is not supported", h.layout.version);
    h.layout.cluster_bits = be32_get(disk.cluster_bits);
    if (h.layout.cluster_bits < QC_MIN_CLUSTER_BITS || h.layout.cluster_bits > QC_MAX_CLUSTER_BITS)
        return qc_fail(error, -EINVAL, "the cluster size, 2^%u, is not valid",
                       h.layout.cluster_bits);
    if (h.layout.version == 3 && len < QC_V3_HEADER_LENGTH)
        return qc_fail(error, -EINVAL, "the header is cut off");

    decode_v2(&disk, &h);
    int err = h.layout.version == 3 ? decode_v3(&disk, &h, error) : 0;
    if (!err && h.crypt_method > QC_ENCRYPTION_LUKS)
        err = qc_fail(error, -EOPNOTSUPP, "unknown encryption method %u", h.crypt_method);
    if (!err)
        err = check_tables(&h, error);
    if (!err)
        err = check_backing(&h, error);
    if (!err)
        *ret = h;
    return err;
}

/* ---- extensions ------------------------------------------------------------------------- */

static int decode_bitmaps(QcHeader *h, const uint8_t *data, uint32_t len, GError **error)
{
    QcDiskBitmaps d;
    if (len != sizeof(d))
        return qc_fail(error, -EINVAL, "the bitmaps extension has %u bytes", len);
    if (!(h->autoclear & QC_AUTOCLEAR_BITMAPS)) /* a writer did not keep them up to date */
        return 0;
    memcpy(&d, data, sizeof(d));
    h->n_bitmaps = be32_get(d.nb_bitmaps);
    h->bitmaps_reserved = be32_get(d.reserved);
    h->bitmap_directory_size = be64_get(d.directory_size);
    h->bitmap_directory_offset = be64_get(d.directory_offset);
    h->has_bitmaps = true;
    if (h->n_bitmaps == 0 || h->n_bitmaps > QC_MAX_BITMAPS ||
        h->bitmap_directory_size > QC_MAX_BITMAP_DIRECTORY_BYTES ||
        !qc_offset_is_valid(&h->layout, h->bitmap_directory_offset))
        return qc_fail(error, -EINVAL, "the bitmaps extension is not valid");
    return 0;
}

static int decode_luks(QcHeader *h, const uint8_t *data, uint32_t len, GError **error)
{
    QcDiskLuks d;
    if (len != sizeof(d))
        return qc_fail(error, -EINVAL, "the encryption extension has %u bytes", len);
    memcpy(&d, data, sizeof(d));
    h->luks_offset = be64_get(d.offset);
    h->luks_length = be64_get(d.length);
    return 0;
}

static int decode_extension(QcHeader *h, uint32_t type, uint32_t at, const uint8_t *data,
                            uint32_t len, GError **error)
{
    switch (type) {
    case QC_EXT_BACKING_FORMAT:
        h->backing_format_at = at;
        h->backing_format_len = len;
        return 0;
    case QC_EXT_DATA_FILE:
        h->data_file_at = at;
        h->data_file_len = len;
        return 0;
    case QC_EXT_BITMAPS:
        return decode_bitmaps(h, data, len, error);
    case QC_EXT_LUKS:
        return decode_luks(h, data, len, error);
    case QC_EXT_FEATURE_NAMES:
        return 0;
    default: /* what later versions add is none of our business */
        h->has_unknown_extensions = true;
        return 0;
    }
}

int qc_header_decode_extensions(QcHeader *header, const uint8_t *buf, size_t len, GError **error)
{
    uint64_t end =
        header->backing_offset ? header->backing_offset : qc_cluster_size(&header->layout);
    uint64_t at = header->header_length;
    while (end - at >= sizeof(QcDiskExtension)) {
        QcDiskExtension ext;
        if (at + sizeof(ext) > len)
            return qc_fail(error, -ENODATA, "the header extensions are cut off");
        memcpy(&ext, buf + at, sizeof(ext));
        at += sizeof(ext);
        uint32_t type = be32_get(ext.type), ext_len = be32_get(ext.length);
        if (ext_len > end - at)
            return qc_fail(error, -EINVAL, "header extension %#x has %u bytes, more than there are",
                           type, ext_len);
        if (type == QC_EXT_END)
            break;
        if (at + ext_len > len)
            return qc_fail(error, -ENODATA, "the header extensions are cut off");
        int err = decode_extension(header, type, (uint32_t)at, buf + at, ext_len, error);
        if (err < 0)
            return err;
        at = MIN(end, at + qc_padded(ext_len));
    }
    header->end = MAX(at, header->backing_offset + header->backing_size);
    if (header->end > len)
        return qc_fail(error, -ENODATA, "the backing file's name is cut off");
    return 0;
}
