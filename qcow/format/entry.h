/*
 * entry.h - L1 and L2 entries: bytes to struct and back. Pure, no I/O. §"Cluster mapping".
 *
 * An L2 entry is decoded and validated here, once; nothing else looks at its bits, but for guesses
 * at what memory will be needed (qc_refs_prefetch_use()).
 */
#ifndef QCOW_ENTRY_H
#define QCOW_ENTRY_H

#include "format.h"

typedef enum QcClusterKind {
    QC_CLUSTER_UNALLOCATED, /* from the backing file; with subclusters, see below */
    QC_CLUSTER_ZERO,        /* zeros, with or without a host cluster */
    QC_CLUSTER_DATA,
    QC_CLUSTER_COMPRESSED,
    QC_CLUSTER_BAD, /* breaks a rule of the format */
} QcClusterKind;

typedef struct QcCluster {
    QcClusterKind kind;
    bool copied;          /* the COPIED flag: refcount is exactly 1 */
    uint64_t host_offset; /* 0 when there is no host cluster; COMPRESSED: of the stream */
    uint32_t host_length; /* COMPRESSED: upper bound of the stream's bytes */
    bool has_subclusters; /* then kind is DATA or UNALLOCATED and these two say which is which */
    uint32_t subclusters_allocated, subclusters_zero;
    bool has_bitmap; /* COMPRESSED: there is one of subclusters; wrong, and harmless to a reader */
} QcCluster;

/* Decode one L2 entry of qc_l2_entry_size() bytes. */
void qc_cluster_decode(const QcLayout *l, const uint8_t *raw, QcCluster *ret);

/*
 * Decode the first of n L2 entries, n > 0, and tell how many from there on are a row: the same but
 * for the place, each in the host cluster behind that of the one before, or none with a host
 * cluster. It is 1 for all but plain clusters.
 */
uint64_t qc_cluster_decode_row(const QcLayout *l, const uint8_t *raw, uint64_t n, QcCluster *ret);

/* The first eight bytes of an L2 entry with the COPIED flag set or cleared. */
void qc_cluster_set_copied(uint8_t *raw, bool copied);

/* Write a plain, wholly allocated data entry with the COPIED flag. */
void qc_cluster_encode_data(const QcLayout *l, uint8_t *raw, uint64_t host_offset);

/*
 * The host clusters that an entry refers to, as first and count; count is 0 when it refers to
 * none. A compressed cluster may touch several.
 */
void qc_cluster_span(const QcLayout *l, const QcCluster *c, uint64_t *ret_first,
                     uint64_t *ret_count);

/* The host offset of an L2 table: 0 when there is none. -EUCLEAN when the entry is not valid. */
int qc_l1_decode(const QcLayout *l, uint64_t entry, uint64_t *ret_offset);
/*
 * The same for who checks or changes a tree: -EUCLEAN also when the entry is COPIED, but of
 * nothing. qemu-img check takes that for a table at 0; a reader, for none.
 */
int qc_l1_decode_strictly(const QcLayout *l, uint64_t entry, uint64_t *ret_offset);

#endif
