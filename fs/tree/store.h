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
    bool is_link;  /* a symbolic link leads to it */
    QcFile *file;  /* opened for reading; NULL when that failed */
    GError *error; /* why it failed, else NULL */
    QcFormat format;
    const char *format_name; /* as QEMU spells it; a constant */
} StoreItem;

void store_item_clear(StoreItem *item);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StoreItem, store_item_clear)

/*
 * Look at a path ("" is the store itself). A file that cannot be opened counts as an image where
 * its name says so, or where the storage fails to give it. *ret must be zeroed. -ENOENT: nothing
 * that the tree shows; another errno: that could not be told.
 */
int store_look(QcGate *gate, const char *path, StoreItem *ret);

/* A name in a directory of the store that may be something. */
typedef struct StoreName {
    bool is_dir; /* it is for sure; otherwise store_look() tells */
    char name[];
} StoreName;

/*
 * The names in a directory of the store: an array of StoreName *. What is mounted on a
 * sub-directory is asked nothing, as it may not answer. -EACCES: the caller may not read the
 * directory, or search those above it.
 */
int store_list(QcGate *gate, const Creds *creds, const char *path, GPtrArray **ret);

/* "dir/name", or "name" in the store itself. */
char *store_join(const char *dir, const char *name);
/* The last name of a path, a part of it. */
const char *store_base_name(const char *path);

/*
 * A path as a person types it -> as this tree spells it; NULL when it cannot be one of ours
 * (absolute, empty, with "..").
 */
char *store_path_from_argument(const char *arg);

/*
 * Whether the caller may search the directories above a path: 0, -EACCES, -ENOENT. For root nothing
 * has to be looked at: 0.
 */
int store_reach(QcGate *gate, const Creds *creds, const char *path);
/* Whether a path leads to what the tree does not show, as its own control file is there. */
bool store_is_hidden(const char *path);
/* What the caller finds at a path of the tree: store_reach(), then store_look(). */
int store_look_as(QcGate *gate, const Creds *creds, const char *path, StoreItem *ret);
/*
 * store_reach() of where an open file lies, which links may have led to; outside the store only the
 * file's own mode counts, and nothing has to be looked at.
 */
int store_reach_file(QcGate *gate, const Creds *creds, QcFile *file);
/*
 * store_reach_file() of a file that an image names, by a path of the store that links to
 * directories may be part of; as far as the first link, store_reach() of the path, too.
 */
int store_reach_layer(QcGate *gate, const Creds *creds, const char *path, QcFile *file);
/*
 * The same for all users at once: take away, from the mode of the file's stat, what it grants to
 * users who may not be able to search the directories above the file. (In the tree an image is
 * where the link is.)
 */
void store_limit(QcGate *gate, QcFile *file, QcFileStat *stat);

#endif
