/*
 * path.h - what paths and the names of backing files say by their text alone. Pure, no I/O.
 *
 * Only the kernel knows where a path leads, as any name in it may be a symbolic link. Nothing here
 * opens anything: the gate does, and these functions find the part that it may let the kernel
 * follow from the store's directory on.
 */
#ifndef QCOW_PATH_H
#define QCOW_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* The path in a backing file's name, or NULL when it names a protocol other than files. */
const char *qc_path_of_name(const char *name);

/* The path of name, which is relative, seen from path's directory (g_free). NULL: no memory. */
char *qc_path_beside(const char *path, const char *name);

/* path, seen from the directory dir, which is absolute (g_free); path may be absolute itself, too.
 * NULL: no memory. */
char *qc_path_under(const char *dir, const char *path);

/*
 * An absolute path relative to the directory dir (absolute, canonical), or NULL when its text does
 * not say that it is inside. no_links: none of the names in dir is a link, so ".." can be taken
 * back there. Beneath dir it is the kernel's to follow.
 */
const char *qc_path_strip(const char *path, const char *dir, bool no_links);

/*
 * The same of a relative path that begins at dir, leaves it by "..", and comes back by dir's own
 * names, none of which is a link. The first *ret_before bytes of path are what it passes before it
 * leaves: that leads to dir again by its text, and in fact when no name in it is a link. NULL: the
 * path stays inside, does not come back, or names dir itself.
 */
const char *qc_path_come_back(const char *path, const char *dir, size_t *ret_before);

#endif
