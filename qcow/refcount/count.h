/*
 * count.h - what an image really refers to, counted from its tables alone.
 */
#ifndef QCOW_COUNT_H
#define QCOW_COUNT_H

#include "refs.h"

/*
 * Count every reference of the image: header, refcount structures, snapshot table, the trees
 * of the active disk and of all snapshots, bitmaps, the encryption header. Places that are
 * not valid are findings, and are skipped. stored: the refcounts as they are on disk, which
 * bound what is counted; NULL where they are not to be believed. See qc_tally_init(). From
 * here on the meter knows how many tables there are. -EIO, -ENOMEM, -ECANCELED.
 */
int qc_count_references(QcImage *image, const QcRefs *stored, QcMeter *meter, QcCheck *findings,
                        QcRefs **ret);

#endif
