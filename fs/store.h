/*
 * store.h - what a path of the store is to us: a sub-directory, an image, or nothing. Keeps no
 * state; every call looks at the files as they are now.
 */
#ifndef SNAPTREE_STORE_H
#define SNAPTREE_STORE_H

#include "creds.h"

typedef enum StoreKind {
    STORE_DIR,
    STORE_IMAGE,
} StoreKind;

/* What was found at a path. */
typedef struct StoreItem {
    StoreKind kind;
    QcFileStat stat;
    /* an image, from here on */
    QcFile *file;  /* opened for reading; NULL when that failed */
    GError *error; /* why it failed, else NULL */
    QcFormat format;
    const char *format_name; /* as QEMU spells it; a constant */
} StoreItem;

void store_item_clear(StoreItem *item);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StoreItem, store_item_clear)

/*
 * Look at a path ("" is the store itself). A file that cannot be opened counts as an image
 * where its name says so. *ret must be zeroed. -ENOENT: nothing that we show.
 */
int store_look(QcGate *gate, const char *path, StoreItem *ret);

/* The names in a directory of the store that may be something: an array of char *. */
int store_list(QcGate *gate, const char *path, GPtrArray **ret);

/* "dir/name", or "name" in the store itself. */
char *store_join(const char *dir, const char *name);

/*
 * A path as a person types it -> as this tree spells it; NULL when it cannot be one of ours
 * (absolute, empty, with "..").
 */
char *store_path_from_argument(const char *arg);

/*
 * Search the directories above a path, as the caller. -EACCES: he may not; -ENOENT. For root
 * nothing has to be looked at: 0.
 */
int store_reach(QcGate *gate, const Creds *creds, const char *path);

#endif
