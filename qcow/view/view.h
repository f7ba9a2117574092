/*
 * view.h - making views, and how they are read; what else one does with them is in qcow.h.
 *
 * Each takes a reference to image and takes over the reference to beneath (which may be NULL:
 * what is in no layer reads as zeros), also when it fails. NULL: no memory.
 */
#ifndef QCOW_VIEW_H
#define QCOW_VIEW_H

#include "image.h"

QcView *qc_view_new_active(QcImage *image, QcView *beneath);
QcView *qc_view_new_snapshot(QcImage *image, unsigned snapshot, QcView *beneath);
QcView *qc_view_new_raw(QcImage *image);
/* A view whose every byte fails with error (a negative errno); size is what it claims, or image,
 * unless that is NULL. */
QcView *qc_view_new_broken(QcImage *image, uint64_t size, int error);

/*
 * Where one reading of a view is: the area that it looks at, held however short the cache keeps
 * it. Zero it before use.
 */
typedef struct QcPlace {
    QcCached *area; /* NULL: this stretch has none; the layers are asked for each piece */
    uint64_t start, end;
} QcPlace;

/* As qc_view_map(), and not exact: holes of raw files are data. */
int qc_view_map_to_read(QcView *view, uint64_t offset, uint64_t length, QcPlace *place,
                        QcExtent *ret);
void qc_place_clear(QcPlace *place);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QcPlace, qc_place_clear)

#endif
