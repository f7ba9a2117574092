/*
 * image.h - QcImage as the engine's own modules see it.
 */
#ifndef QCOW_IMAGE_H
#define QCOW_IMAGE_H

#include "cache.h"
#include "header.h"
#include "strings.h"

/* Where a bitmap's table lies. */
typedef struct QcBitmapTable {
    uint64_t offset;
    uint32_t entries;
} QcBitmapTable;

/*
 * Immutable once qc_image_open() returns, apart from spent; and from trust, which chain.c may lower
 * before it hands the image out. For a raw image everything from sector0 on is zero.
 */
struct QcImage {
    gatomicrefcount refs;
    QcFile *file;
    char *path;
    QcCache *cache;
    uint64_t owner; /* key of this image's entries in the cache */
    bool cacheable; /* false on block devices: nothing tells when they change */
    QcTrust trust;  /* from the stat in info */
    bool disk_only; /* snapshots and bitmaps were not read */
    QcInfo info;
    QcStrings strings; /* those of info */

    uint8_t sector0[QC_SECTOR]; /* the file's first sector as read */
    uint8_t *header_bytes;      /* header.end bytes as read; only with QC_TRUST_METADATA */
    QcHeader header;
    uint64_t *snapshot_at;        /* file offset of each snapshot's table entry */
    uint64_t snapshots_end;       /* file offset where the table ends */
    QcBitmapTable *bitmap_tables; /* of each of the info's bitmaps */
    bool bitmaps_whole;           /* the info has all of their directory */
    bool spent; /* a command has been tried with it; only the writer's thread looks */
};

#endif
