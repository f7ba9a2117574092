/*
 * names.h - what the snapshots of an image are called in a directory.
 *
 * A name in an image is any string of bytes, and may come twice. A name in a directory must be
 * unique, not empty, at most 255 bytes, without '/' and NUL. The rule (docs/GUIDE.md, Names): a
 * byte that cannot stand is written %XX; a name that comes twice, is empty or too long gets ~ID
 * behind it. Pure: no I/O, no state but the table itself.
 */
#ifndef SNAPTREE_NAMES_H
#define SNAPTREE_NAMES_H

#include "qcow.h"

#include <glib.h>
#include <stdbool.h>

#define NAMES_MAX   255u /* bytes of a name in a directory */
#define NAMES_BYTES 512  /* memory that names_new() takes for each name, besides the name */

/* The table of one image: index <-> name shown. Immutable once made. */
typedef struct Names Names;

/*
 * Whether there is memory for a list of all snapshots of an image: each bytes for every one, and a
 * few copies of its name. To be asked, with NAMES_BYTES, before names_new().
 */
bool names_room_for(const QcInfo *info, size_t each);

/* Of the snapshots only name and id matter. They are borrowed for as long as the table lives. */
Names *names_new(const QcSnapshot *snapshots, unsigned count);
void names_free(Names *names); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Names, names_free)

unsigned names_count(const Names *names);
const char *names_shown(const Names *names, unsigned index);

/* The index of the name that the directory shows. -ENOENT. */
int names_find(const Names *names, const char *shown, unsigned *ret);

/*
 * What a person means by an argument: the name that the directory shows, or else the only
 * snapshot that has exactly these bytes as its name. -ENOENT; -ENOTUNIQ: several have.
 */
int names_resolve(const Names *names, const char *arg, unsigned *ret);

/* The names shown of the snapshots between which names_resolve() could not choose (g_strfreev). */
char **names_meant(const Names *names, const char *arg);

/* The table without one of its snapshots; NULL: there is no memory, or each is shown by its name
 * alone, so that the others are shown as they were. */
Names *names_without(const Names *names, unsigned index);

/* Bytes as they are shown: '/', '%', control characters and the names . and .. as %XX. */
char *name_escape(const char *bytes, size_t len);

/*
 * The bytes that a new name given by a person stands for: where it reads exactly as names
 * are shown, with %XX in it, the bytes that this shows; else the argument itself.
 */
GBytes *name_from_argument(const char *arg);

/* base + suffix in at most NAMES_MAX bytes: base is cut, never inside %XX or a UTF-8 character. */
char *name_fit(const char *base, const char *suffix);

#endif
