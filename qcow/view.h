/*
 * view.h - making views, and how they are read; what else one does with them is in qcow.h.
 *
 * Each takes a reference to image and takes over the reference to beneath (which may be NULL:
 * what is in no layer reads as zeros).
 */
#ifndef QCOW_VIEW_H
#define QCOW_VIEW_H

#include "image.h"

QcView *qc_view_new_active(QcImage *image, QcView *beneath);
QcView *qc_view_new_snapshot(QcImage *image, unsigned snapshot, QcView *beneath);
QcView *qc_view_new_raw(QcImage *image);
/* A view whose every byte fails with error (a negative errno); size is what it claims. */
QcView *qc_view_new_broken(uint64_t size, int error);

/* As qc_view_map(), from a remembered area if there is one, and not exact: raw data may be a hole.
 */
int qc_view_map_to_read(QcView *view, uint64_t offset, uint64_t length, QcExtent *ret);

#endif
