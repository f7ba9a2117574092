/*
 * staleness.h - whether a file, and what an image says of it, are still what they were. What users
 * of the engine may ask is in qcow.h and qcow-file.h.
 */
#ifndef QCOW_STALENESS_H
#define QCOW_STALENESS_H

#include "image.h"

/* 1 when the first sector is still what it was when it was read, 0 when not; negative errno. */
int qc_image_has_same_sector0(const QcImage *image);

/*
 * Whether the header is still what was read. False is always a safe answer. It is looked at only
 * where the stat does not tell: of an image that a process with QEMU's locks was writing.
 */
bool qc_image_has_same_header(const QcImage *image);

/* The bytes of the header that say where tables are: they change when views change. */
enum {
    QC_STATE_AT = offsetof(QcDiskHeader, size),
    QC_STATE_END = offsetof(QcDiskHeader, incompatible_features),
};

/*
 * Whether the snapshot (index) of image still stands in the file, whatever else changed:
 * 0, or -ESTALE. hint holds where it was found last, for the next call (start with zeros).
 */
typedef struct QcSnapshotHint {
    uint8_t state[QC_STATE_END]; /* of the header when entry_at was right */
    uint64_t entry_at;
} QcSnapshotHint;
int qc_image_find_snapshot(const QcImage *image, unsigned snapshot, QcSnapshotHint *hint);

/* Have the header, and the entry that a hint (may be NULL) leads to, read from the storage next:
 * see qc_file_refresh(). */
void qc_image_refresh(const QcImage *image, const QcSnapshotHint *hint);

#endif
