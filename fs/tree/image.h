/*
 * image.h - an image of the store, opened with its backing files, in one state of those files; and
 * what its parts are called in the tree.
 */
#ifndef SNAPTREE_IMAGE_H
#define SNAPTREE_IMAGE_H

#include "names.h"
#include "node.h"
#include "store.h"

/* Immutable apart from what is worked out on first use; reference-counted; thread-safe. */
typedef struct Image Image;

/* What an image is opened for. */
typedef enum ImageUse {
    IMAGE_FOR_ALL,
    IMAGE_FOR_DISK, /* of no use for its snapshots */
} ImageUse;

/*
 * Open the image at a path of the store, on the file of this item. like: the same image in an
 * earlier state, whose layers are taken over where they are the same; or NULL. What is wrong with
 * it is told by image_error(); fails only for a shortage (qc_is_shortage).
 */
int image_open(const char *path, const StoreItem *item, QcGate *gate, QcCache *cache,
               const Image *like, ImageUse use, Image **ret);
/*
 * The same file again, and those beneath whatever their names lead to by now, as long as the images
 * name the same, in the state that they have now; waits (some 20 ms a file, at most) until that
 * can be told apart.
 */
int image_reopen(const Image *image, QcGate *gate, QcCache *cache, Image **ret);
Image *image_ref(Image *image);
void image_unref(Image *image); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_unref)

bool image_is_shared(Image *image); /* there is more than one reference */

const char *image_path(const Image *image);       /* in the store */
const QcFileStat *image_stat(const Image *image); /* of the file when it was opened */
const char *image_format(const Image *image);     /* as QEMU spells it; NULL when not known */
QcFile *image_file(const Image *image);           /* borrowed; NULL when it cannot be opened */
QcImage *image_qc(const Image *image);            /* borrowed; NULL when it cannot be opened */
/* Also of an image that cannot be opened, what its header says; NULL: nothing is known. */
const QcInfo *image_info(const Image *image);
/* As qc_image_luks(), of an image of which image_info() is known. */
int image_luks(const Image *image, QcLuks *ret);
QcChain *image_chain(const Image *image); /* borrowed; NULL exactly when image_qc is */
/* Why there is no disk, one line; NULL when there is one. */
const char *image_error(const Image *image);
/* The errno that reading its views gives as a whole: 0, or -EOPNOTSUPP. */
int image_readable(const Image *image);

/*
 * Whether the caller may read what the image says of itself: its file, which has to be reached both
 * by the image's name and where it lies. The kernel has asked that of what had the name a moment
 * ago. 0, -EACCES or what store_reach() gives.
 */
int image_check_access(const Image *image, QcGate *gate, const Creds *creds);

unsigned image_n_snapshots(const Image *image);
const QcSnapshot *image_snapshot(const Image *image, unsigned index);
const Names *image_names(Image *image); /* of the snapshots; borrowed. NULL: no memory */
unsigned image_n_layers(const Image *image);
char *image_layer_name(const Image *image, unsigned layer); /* "1-base.qcow2" (g_free) */
bool image_find_layer(const Image *image, const char *name, unsigned *ret);
const QcInfo *image_layer_info(const Image *image, unsigned layer);
/* The stat of its file, with a mode to go by (acl.h). */
QcFileStat image_layer_stat(const Image *image, unsigned layer);
/* The regular raw file that a layer beneath others is; zeros: it is something else. */
NodeFile image_layer_file(const Image *image, unsigned layer);

#define IMAGE_ALL_LAYERS UINT_MAX

/*
 * What the bytes of a layer beneath, or for 0 of the snapshots, rest on, as a string that is equal
 * only when they are (g_free); NULL when the files changed too recently to tell.
 */
char *image_identity(const Image *image, QcGate *gate, unsigned layer);

/*
 * Whether its first layers are still what they were, by name and by stat. If that is more layers
 * than it has, also whether the chain ends as it did. False is always a safe answer.
 */
bool image_is_current(const Image *image, QcGate *gate, unsigned layers);
/* Whether its files may stay open: those of a device are closed when they are not read. */
bool image_may_be_kept(const Image *image);

/* A text worked out from the image, kept with it; slot is 0 or 1. NULL when not there yet. */
GBytes *image_get_text(Image *image, unsigned slot);
void image_set_text(Image *image, unsigned slot, GBytes *text);

#endif
