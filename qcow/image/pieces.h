/*
 * pieces.h - what is read of an image's file after it was opened: bytes, slices of its tables and
 * decoded clusters, the latter two through the cache (except on devices, where nothing is kept).
 * Thread-safe.
 */
#ifndef QCOW_PIECES_H
#define QCOW_PIECES_H

#include "image.h"

/*
 * Read bytes of the file. What lies past its end, as that was when the image was opened, is zeros;
 * what lay before it and is not there any more, -EIO. Errors of reading.
 */
int qc_image_read(const QcImage *image, void *buf, size_t len, uint64_t offset);
/* The same by qc_file_read_past(). */
int qc_image_read_past(const QcImage *image, uint64_t pass, void *buf, size_t len, uint64_t offset);

/* Bytes in a slice: 16 KiB, or a cluster where that is less. */
static inline uint64_t qc_table_slice(const QcLayout *l)
{
    return MIN(qc_cluster_size(l), 16384);
}

/*
 * A slice of a table, from the cache or the file: size bytes or more. offset must be a multiple
 * of qc_table_slice(), and size not be above that. What lies past the end of the file reads as
 * zeros. -EIO, -ENOMEM.
 */
int qc_image_table_slice(const QcImage *image, uint64_t offset, uint64_t size, QcCached **ret);

/* A decoded compressed cluster, from the cache or the file. -EIO, -ENOMEM. */
int qc_image_inflate(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                     QcCached **ret);
/* The same into buf, without a look at the cache. */
int qc_image_inflate_to(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                        void *buf);

/*
 * An entry of the cache with size bytes or more (*ret_found true), or else an empty one for the
 * caller to fill, and then to add with qc_image_keep(). A reference. -ENOMEM.
 */
int qc_image_find_cached(const QcImage *image, QcCachedKind kind, uint64_t offset, uint64_t size,
                         QcCached **ret, bool *ret_found);
/* Add an entry to the cache, unless nothing of the image is kept. */
void qc_image_keep(const QcImage *image, QcCached *cached);

#endif
