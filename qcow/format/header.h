/*
 * header.h - the header and its extensions: bytes to struct. Pure, no I/O.
 */
#ifndef QCOW_HEADER_H
#define QCOW_HEADER_H

#include "format.h"
#include "qcow.h"

/* A decoded header. All values are checked against the limits of the format. */
typedef struct QcHeader {
    QcLayout layout;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t n_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t header_length;
    uint8_t compression_type; /* QC_COMPRESSION_ZLIB or QC_COMPRESSION_ZSTD */
    uint64_t backing_offset;
    uint32_t backing_size;

    /* From the extensions; offsets and lengths in the first cluster, 0 when absent. */
    uint32_t backing_format_at, backing_format_len;
    uint32_t data_file_at, data_file_len;
    bool has_bitmaps; /* that are valid: the header's autoclear bit says so */
    uint32_t n_bitmaps, bitmaps_reserved;
    uint64_t bitmap_directory_offset, bitmap_directory_size;
    uint64_t luks_offset, luks_length;
    bool has_unknown_extensions;
    uint64_t end; /* of all that the first cluster says, the backing file's name included */
} QcHeader;

/*
 * Decode the fixed part. buf holds the first len bytes of the file (at least
 * sizeof(QcDiskHeader) unless the file is shorter). -EINVAL, -EOPNOTSUPP.
 */
int qc_header_decode(const uint8_t *buf, size_t len, QcHeader *ret, GError **error);

/*
 * Decode the extensions into a header that qc_header_decode filled. -ENODATA: more of the
 * first cluster is needed than the len bytes given. -EINVAL.
 */
int qc_header_decode_extensions(QcHeader *header, const uint8_t *buf, size_t len, GError **error);

#endif
