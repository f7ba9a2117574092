/*
 * batch.h - reading many clusters of a file in large, sorted reads.
 */
#ifndef QCOW_BATCH_H
#define QCOW_BATCH_H

#include "image.h"
#include "meter.h"

/* A cluster to read, and what the caller knows it by. */
typedef struct QcBatchItem {
    uint64_t offset; /* host offset, a multiple of the cluster size */
    uint32_t tag;
} QcBatchItem;

/*
 * Called for each cluster in the order of its offset. cluster may be changed, and is valid
 * until the call returns; it is NULL when the cluster is all zeros because the file has a
 * hole there. A result other than 0 ends the batch and becomes its result.
 */
typedef int (*QcBatchFunc)(void *data, const QcBatchItem *item, uint8_t *cluster);

/*
 * Sort by offset, in a time that does not depend on what the image made of it: millions of items
 * that are in order already, or in none, take some ten milliseconds.
 */
void qc_batch_sort(QcBatchItem *items, size_t n);

/*
 * Read the n clusters of items from the image's file; they are sorted on the way. Each is a step
 * of the meter. -EUCLEAN when two have the same offset or one does not lie inside the file;
 * -EIO, -ENOMEM, -ECANCELED.
 */
int qc_batch_read(QcImage *image, QcBatchItem *items, size_t n, QcMeter *meter, QcBatchFunc func,
                  void *data);

#endif
