/*
 * block.h - what is read of an image's file after it was opened: bytes, slices of its tables and
 * decoded clusters, the latter two through the cache (except on devices, where nothing is kept).
 * Thread-safe.
 */
#ifndef QCOW_BLOCK_H
#define QCOW_BLOCK_H

#include "image.h"

/*
 * Read bytes of the file. What lies past its end, as that was when the image was opened, is zeros;
 * what lay before it and is not there any more, -EIO. Errors of reading.
 */
int qc_image_read(const QcImage *image, void *buf, size_t len, uint64_t offset);

/*
 * A slice of a table, from the cache or the file: size bytes or more. offset must be a multiple
 * of qc_table_slice(), and size not be above that. What lies past the end of the file reads as
 * zeros. -EIO, -ENOMEM.
 */
int qc_image_table_slice(const QcImage *image, uint64_t offset, uint64_t size, QcBlock **ret);

/* How to look at the places of a view, and what has been learnt and spent on the way. */
typedef struct QcLook {
    bool exact;                   /* tell holes of files apart, at the cost of system calls */
    uint64_t remembered;          /* guest bytes that the caller keeps the answers of; 0: none */
    uint64_t work;                /* spent: 1 is an L2 entry, some nanoseconds */
    const QcImage *hole_of;       /* in whose file a hole was found last; NULL: none yet */
    uint64_t hole_from, hole_end; /* and where it is */
    QcBlock *l1, *l2;             /* the slices that were looked at last; references */
    QcBlock *page;                /* the part of an L2 table that was read past the cache; owned */
} QcLook;

void qc_look_clear(QcLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QcLook, qc_look_clear)

enum {
    QC_WORK_CALL = 64,    /* a system call ... */
    QC_WORK_BYTES = 4096, /* ... that reads so much */
};

/*
 * Whether the L2 table at offset holds nothing but zeros: 1, or 0 when not, or when that cannot
 * be remembered. -EIO, -ENOMEM.
 */
int qc_image_table_is_blank(const QcImage *image, uint64_t offset, QcLook *look);

/* Bytes in a slice: 16 KiB, or a cluster where that is less. */
static inline uint64_t qc_table_slice(const QcLayout *l)
{
    return MIN(qc_cluster_size(l), 16384);
}

/* A decoded compressed cluster, from the cache or the file. -EIO, -ENOMEM. */
int qc_image_inflate(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                     QcBlock **ret);
/* The same into buf, without a look at the cache. */
int qc_image_inflate_to(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                        void *buf);

#endif
