/* mountpoint.h - the directory to mount on. */
#ifndef SNAPTREE_MOUNTPOINT_H
#define SNAPTREE_MOUNTPOINT_H

/*
 * The real path of a mountpoint (g_free), or NULL after saying what is wrong with it. A mount of
 * this program that is left there, and whose daemon is gone, is taken away.
 */
char *mountpoint_check(const char *store, const char *mountpoint);

#endif
