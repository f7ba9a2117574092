/* images.h - the few images that are kept open, and opening others. Thread-safe. */
#ifndef SNAPTREE_IMAGES_H
#define SNAPTREE_IMAGES_H

#include "image.h"

typedef struct Images Images;

/* NULL: its thread cannot be started. */
Images *images_new(QcGate *gate, QcCache *cache);
void images_free(Images *images); /* accepts NULL */

/*
 * The image at a path with its first layers (at least 1) as they are now; those below may be
 * as they were, so ask for as many as the answer rests on. -ENOENT; a shortage (qc_is_shortage); or
 * as store_look.
 */
int images_get(Images *images, const char *path, unsigned layers, Image **ret);

/*
 * The stat of the image at a path, when it is open and its file is certainly still what it
 * was: costs three system calls, where store_look() has to open and read. False: look.
 */
bool images_stat(Images *images, const char *path, QcFileStat *ret);

/* Open an image on the file of this item, its top not shared, for its disk only. Fails only for a
 * shortage. */
int images_open(Images *images, const char *path, const StoreItem *item, Image **ret);

/* As image_reopen(). */
int images_reopen(Images *images, const Image *image, Image **ret);

/* Forget the image at a path: a command changed it. */
void images_drop(Images *images, const char *path);

#endif
