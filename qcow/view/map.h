/*
 * map.h - where the bytes of one layer lie: its tables, or the file itself. §"Cluster mapping".
 *
 * Each call tells one extent, as far as one slice of a table says. Thread-safe, apart from look,
 * which is the caller's and belongs to one search.
 */
#ifndef QCOW_MAP_H
#define QCOW_MAP_H

#include "look.h"

/* The tables of one disk in a qcow2 file: the active one's, or a snapshot's. */
typedef struct QcMapping {
    QcImage *image; /* borrowed */
    uint64_t l1_offset;
    uint32_t l1_entries;
} QcMapping;

/* HOLE: the tables have nothing there. -EIO, -ENOMEM. */
int qc_map_qcow2(const QcMapping *map, uint64_t offset, uint64_t length, QcLook *look,
                 QcExtent *ret);
/* offset: before the end of the disk, which may be a part of a sector behind the file's. */
int qc_map_raw(const QcImage *image, uint64_t offset, uint64_t length, QcLook *look, QcExtent *ret);

#endif
