/*
 * format.h - qcow2 as it lies on disk.
 *
 * A file is an array of clusters of 2^cluster_bits bytes. Cluster 0 starts with the header,
 * its extensions, and the backing file's name. The active disk is a two-level table: an L1
 * table (contiguous) points at L2 tables (a cluster each), whose entries point at data
 * clusters. Each snapshot, listed in the snapshot table (contiguous), has an L1 table of its
 * own; L2 tables and data clusters may be shared. How often a cluster is referred to is kept
 * in refcount blocks (a cluster each) that the refcount table (contiguous) points at.
 * All integers are big-endian. "§" is a section of QEMU's docs/interop/qcow2.txt.
 */
#ifndef QCOW_FORMAT_H
#define QCOW_FORMAT_H

#include "be.h"
#include <stdbool.h>
#include <stddef.h>

#define QCOW_MAGIC 0x514649fbu /* "QFI\xfb" */

/* §"Header". Version 2 ends before incompatible_features. */
typedef struct QcDiskHeader {
    be32 magic, version;
    be64 backing_file_offset;
    be32 backing_file_size, cluster_bits;
    be64 size;
    be32 crypt_method, l1_size;
    be64 l1_table_offset, refcount_table_offset;
    be32 refcount_table_clusters, nb_snapshots;
    be64 snapshots_offset;
    be64 incompatible_features, compatible_features, autoclear_features;
    be32 refcount_order, header_length;
    uint8_t compression_type, padding[7];
} QcDiskHeader;

G_STATIC_ASSERT(offsetof(QcDiskHeader, size) == 24);
G_STATIC_ASSERT(offsetof(QcDiskHeader, snapshots_offset) == 64);
G_STATIC_ASSERT(offsetof(QcDiskHeader, incompatible_features) == 72);
G_STATIC_ASSERT(offsetof(QcDiskHeader, autoclear_features) == 88);
G_STATIC_ASSERT(offsetof(QcDiskHeader, compression_type) == 104);
G_STATIC_ASSERT(sizeof(QcDiskHeader) == 112);

enum {
    QC_SECTOR = 512, /* what a disk writes as a whole; the switch lies in the first */
    QC_V2_HEADER_LENGTH = 72,
    QC_V3_HEADER_LENGTH = 104, /* at least */
    QC_MIN_CLUSTER_BITS = 9,
    QC_MAX_CLUSTER_BITS = 21,
    QC_MIN_EXTENDED_L2_BITS = 14,
    QC_V2_REFCOUNT_ORDER = 4,
    QC_MAX_REFCOUNT_ORDER = 6,
    QC_SUBCLUSTER_BITS = 5,
    QC_SUBCLUSTERS = 1 << QC_SUBCLUSTER_BITS,
    QC_MAX_BACKING_NAME = 1023,
    QC_MAX_L1_BYTES = 32 << 20,
    QC_MAX_REFCOUNT_TABLE_BYTES = 8 << 20,
    QC_MAX_SNAPSHOT_TABLE_BYTES = 64 << 20,
    QC_MAX_SNAPSHOT_EXTRA = 1024,
    QC_MAX_BITMAPS = 65535,
    QC_MAX_BITMAP_NAME = 1023,
    QC_MAX_BITMAP_BYTES = 512 << 20, /* of one, in whole clusters: more QEMU does not open */
    QC_MIN_GRANULARITY_BITS = 9,
    QC_MAX_GRANULARITY_BITS = 31,
    QC_MAX_BITMAP_DIRECTORY_BYTES = 64 << 20,
};

#define QC_INCOMPAT_DIRTY       (UINT64_C(1) << 0)
#define QC_INCOMPAT_CORRUPT     (UINT64_C(1) << 1)
#define QC_INCOMPAT_DATA_FILE   (UINT64_C(1) << 2)
#define QC_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QC_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define QC_INCOMPAT_KNOWN       UINT64_C(0x1f)
#define QC_COMPAT_LAZY          (UINT64_C(1) << 0)
#define QC_COMPAT_KNOWN         UINT64_C(0x1)
#define QC_AUTOCLEAR_BITMAPS    (UINT64_C(1) << 0)
#define QC_AUTOCLEAR_RAW        (UINT64_C(1) << 1)
#define QC_AUTOCLEAR_KNOWN      UINT64_C(0x3)

/* §"Header": compression_type. */
enum {
    QC_COMPRESSION_ZLIB = 0, /* raw deflate */
    QC_COMPRESSION_ZSTD = 1,
};

/* §"Header extensions". */
typedef struct QcDiskExtension {
    be32 type, length; /* length bytes follow, padded to a multiple of 8 */
} QcDiskExtension;

#define QC_EXT_END            0x00000000u
#define QC_EXT_BACKING_FORMAT 0xe2792acau
#define QC_EXT_BITMAPS        0x23852875u
#define QC_EXT_LUKS           0x0537be77u
#define QC_EXT_DATA_FILE      0x44415441u
#define QC_EXT_FEATURE_NAMES  0x6803f857u

/* §"Bitmaps extension". */
typedef struct QcDiskBitmaps {
    be32 nb_bitmaps, reserved;
    be64 directory_size, directory_offset;
} QcDiskBitmaps;
G_STATIC_ASSERT(sizeof(QcDiskBitmaps) == 24);

/* §"Bitmap directory". Followed by extra data and the name, padded to a multiple of 8. */
typedef struct QcDiskBitmapEntry {
    be64 table_offset;
    be32 table_size, flags;
    uint8_t type, granularity_bits;
    be16 name_size;
    be32 extra_data_size;
} QcDiskBitmapEntry;
G_STATIC_ASSERT(sizeof(QcDiskBitmapEntry) == 24);
#define QC_BITMAP_DIRTY    1u /* type: dirty tracking */
#define QC_BITMAP_IN_USE   1u /* flags */
#define QC_BITMAP_AUTO     2u
#define QC_BITMAP_KNOWN    3u
#define QC_BITMAP_ALL_ONES UINT64_C(1) /* in its table, in the place of an offset */

/* §"Full disk encryption header pointer". */
typedef struct QcDiskLuks {
    be64 offset, length;
} QcDiskLuks;

/* §"Snapshots". Followed by extra data, id and name, padded to a multiple of 8. */
typedef struct QcDiskSnapshot {
    be64 l1_table_offset;
    be32 l1_size;
    be16 id_size, name_size;
    be32 date_sec, date_nsec;
    be64 vm_clock_nsec;
    be32 vm_state_size, extra_data_size;
} QcDiskSnapshot;
G_STATIC_ASSERT(sizeof(QcDiskSnapshot) == 40);

typedef struct QcDiskSnapshotExtra {
    be64 vm_state_size, disk_size, icount;
} QcDiskSnapshotExtra;

/* §"Cluster mapping": bits of L1 and L2 entries, of refcount table entries. */
#define QC_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9 to 55 */
#define QC_COPIED      (UINT64_C(1) << 63)
#define QC_COMPRESSED  (UINT64_C(1) << 62)
#define QC_ZERO        UINT64_C(1)
#define QC_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QC_L2_RESERVED UINT64_C(0x3f000000000001fe)

/* What the geometry of an image's tables follows from. */
typedef struct QcLayout {
    unsigned version;
    unsigned cluster_bits;
    unsigned refcount_order; /* a refcount has 2^refcount_order bits */
    bool extended_l2;
} QcLayout;

static inline uint64_t qc_cluster_size(const QcLayout *l)
{
    return UINT64_C(1) << l->cluster_bits;
}

static inline unsigned qc_l2_entry_size(const QcLayout *l)
{
    return l->extended_l2 ? 16 : 8;
}

/* A disk's size may be any number of bytes where it is stated; QEMU works with whole sectors. */
static inline uint64_t qc_sectors_down(uint64_t size)
{
    return size & ~(uint64_t)(QC_SECTOR - 1);
}

/* The same with a part of a sector being one. */
static inline uint64_t qc_sectors_up(uint64_t size)
{
    return qc_sectors_down(size + QC_SECTOR - 1);
}

/* How far behind the start of its cluster a host or guest offset is. */
static inline uint64_t qc_in_cluster(const QcLayout *l, uint64_t offset)
{
    return offset & (qc_cluster_size(l) - 1);
}

/* log2 of the entries in an L2 table. */
static inline unsigned qc_l2_bits(const QcLayout *l)
{
    return l->cluster_bits - (l->extended_l2 ? 4 : 3);
}

static inline uint64_t qc_l2_entries(const QcLayout *l)
{
    return UINT64_C(1) << qc_l2_bits(l);
}

/* Which entry of its L2 table a guest offset has. */
static inline uint64_t qc_l2_index(const QcLayout *l, uint64_t offset)
{
    return (offset >> l->cluster_bits) & (qc_l2_entries(l) - 1);
}

/* log2 of the guest bytes that one L1 entry stands for. At most 21 + 18. */
static inline unsigned qc_l1_shift(const QcLayout *l)
{
    return l->cluster_bits + qc_l2_bits(l);
}

/* L1 entries that a disk of size bytes needs. */
static inline uint64_t qc_l1_entries_for(const QcLayout *l, uint64_t size)
{
    uint64_t per_entry = UINT64_C(1) << qc_l1_shift(l);
    return size / per_entry + (size % per_entry != 0);
}

/* Clusters that n bytes fill. */
static inline uint64_t qc_clusters_for(const QcLayout *l, uint64_t n)
{
    return (n >> l->cluster_bits) + (qc_in_cluster(l, n) != 0);
}

/* Extensions and entries of directories are padded to this. */
static inline uint64_t qc_padded(uint64_t n)
{
    return (n + 7) & ~UINT64_C(7);
}

static inline bool qc_cluster_aligned(const QcLayout *l, uint64_t offset)
{
    return qc_in_cluster(l, offset) == 0;
}

/* Whether a structure that begins with a cluster may lie there: no bits that an offset has not. */
static inline bool qc_offset_is_valid(const QcLayout *l, uint64_t offset)
{
    return !(offset & ~QC_OFFSET_MASK) && qc_cluster_aligned(l, offset);
}

#endif
