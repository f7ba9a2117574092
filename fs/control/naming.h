/*
 * naming.h - what the names in a command mean: which snapshot of its image one is, and what a new
 * name is to be. As the tree shows the snapshots; or, until that name is used otherwise, as it did
 * before a command of ours let them be shown otherwise (formerly.h).
 */
#ifndef SNAPTREE_NAMING_H
#define SNAPTREE_NAMING_H

#include "formerly.h"
#include "names.h"

#define NAMING_NONE G_MAXUINT /* in the place of an index: no snapshot */

/* For one command on one image, and its thread. Zeros are none. */
typedef struct Naming {
    Formerly *formerly;     /* borrowed, as are the next two */
    const QcFileStat *file; /* the image's */
    const QcInfo *info;     /* as it was before the command */
    Names *names;
} Naming;

/* What is given has to stay until naming_clear(). -ENOMEM. */
int naming_begin(Naming *naming, Formerly *formerly, const QcFileStat *file, const QcInfo *info,
                 GError **error);
void naming_clear(Naming *naming);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Naming, naming_clear)

/* The snapshot (index) that an argument means. -ENOENT, also when it may mean several. */
int naming_find(const Naming *naming, const char *arg, unsigned *ret, GError **error);

/*
 * The name that a snapshot is to get (g_free); renamed: which one it is, or NAMING_NONE. -EEXIST:
 * the tree shows another snapshot so, whose path would come to mean this one. -EINVAL: it has a NUL
 * byte. Whether it can be a name in every other way is for the engine to say.
 */
int naming_choose(const Naming *naming, unsigned renamed, const char *arg, char **ret,
                  GError **error);

/* The command has deleted this snapshot, or given it another name: note what the others were shown
 * as, where they are shown otherwise now. */
void naming_note_former(const Naming *naming, unsigned index);

#endif
