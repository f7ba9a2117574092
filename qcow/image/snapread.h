/*
 * snapread.h - reading the snapshot table of a file, entry by entry, in bounded memory.
 */
#ifndef QCOW_SNAPREAD_H
#define QCOW_SNAPREAD_H

#include "image.h"
#include "snaptable.h"

/* Where a reader stands. Without an image, fill in the first four, leave the rest zero. */
typedef struct QcSnapReader {
    QcFile *file;
    const QcLayout *layout;
    uint64_t disk_size; /* for entries that do not state theirs */
    uint64_t at;        /* file offset of the next entry */
    uint64_t consumed;  /* bytes of the table read so far */
    uint8_t *buf;
    size_t start, len, room; /* unread bytes are buf[start .. start+len) */
} QcSnapReader;

/* A reader of the table at a file offset, in the file and the layout of an image; borrows these. */
QcSnapReader qc_snap_reader_at(const QcImage *image, uint64_t at);

/*
 * The next entry. Its strings point into the reader's buffer until the next call.
 * ret_raw and ret_size: the entry as it lies on disk. -EUCLEAN when the table is broken or
 * longer than the format allows, -EIO, -ENOMEM.
 */
int qc_snap_reader_next(QcSnapReader *reader, QcSnapshot *ret, size_t *ret_id_len,
                        const uint8_t **ret_raw, size_t *ret_size);
void qc_snap_reader_clear(QcSnapReader *reader);

#endif
