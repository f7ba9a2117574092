/*
 * bitmaps.h - the directory of an image's bitmaps. Commands keep them as they are; readers are
 * shown what there is.
 */
#ifndef QCOW_BITMAPS_H
#define QCOW_BITMAPS_H

#include "image.h"

/*
 * Fill in the bitmaps of image->info and bitmap_tables, from a header that has been decoded.
 * -EUCLEAN when the directory lies outside the file, -EIO, -ENOMEM.
 */
int qc_bitmaps_read(QcImage *image, GError **error);

#endif
