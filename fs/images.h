/*
 * images.h - an image of the store, opened, in one state of its file and backing files, and
 * the few that are kept open.
 */
#ifndef SNAPTREE_IMAGES_H
#define SNAPTREE_IMAGES_H

#include "names.h"
#include "node.h"
#include "store.h"

/* Immutable apart from what is worked out on first use; reference-counted; thread-safe. */
typedef struct Image Image;

Image *image_ref(Image *image);
void image_unref(Image *image); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_unref)

const char *image_path(const Image *image);       /* in the store */
const QcFileStat *image_stat(const Image *image); /* of the file when it was opened */
const char *image_format(const Image *image);     /* as QEMU spells it; NULL when not known */
QcFile *image_file(const Image *image);           /* borrowed; NULL when it cannot be opened */
QcImage *image_qc(const Image *image);            /* borrowed; NULL when it cannot be opened */
QcChain *image_chain(const Image *image);         /* borrowed; NULL exactly when image_qc is */
/* Why there is no disk, one line; NULL when there is one. */
const char *image_error(const Image *image);
/* The errno that reading its views gives as a whole: 0, or -EOPNOTSUPP. */
int image_readable(const Image *image);

unsigned image_n_snapshots(const Image *image);
const QcSnapshot *image_snapshot(const Image *image, unsigned index);
const Names *image_names(Image *image); /* NULL: no memory */ /* of the snapshots; borrowed */
unsigned image_n_layers(const Image *image);
char *image_layer_name(const Image *image, unsigned layer); /* "1-base.qcow2" (g_free) */
bool image_find_layer(const Image *image, const char *name, unsigned *ret);
const QcInfo *image_layer_info(const Image *image, unsigned layer);
/* The stat of its file, with a mode to go by (acl.h). */
QcFileStat image_layer_stat(const Image *image, unsigned layer);
/* The regular raw file that a layer beneath others is; zeros: it is something else. */
NodeFile image_layer_file(const Image *image, unsigned layer);

/*
 * What the bytes of all views rest on, as a string that is equal only when they are; NULL
 * when the files changed too recently to tell.
 */
char *image_identity(const Image *image, QcGate *gate);

/* A text worked out from the image, kept with it; slot is 0 or 1. NULL when not there yet. */
GBytes *image_get_text(Image *image, unsigned slot);
void image_set_text(Image *image, unsigned slot, GBytes *text);

/* ---- those that are open ---------------------------------------------------------------- */

typedef struct Images Images;

Images *images_new(QcGate *gate, QcCache *cache);
void images_free(Images *images); /* accepts NULL */

#define IMAGES_ALL_LAYERS UINT_MAX

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

/* Open an image on the file of this item, its top not shared. Fails only for a shortage. */
int images_open(Images *images, const char *path, const StoreItem *item, Image **ret);

/* The same file again, in the state that it has now; waits until that can be told apart. */
int images_reopen(Images *images, const Image *image, Image **ret);

/* Forget the image at a path: a command changed it. */
void images_drop(Images *images, const char *path);

#endif
