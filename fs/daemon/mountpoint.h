/* mountpoint.h - the directory to mount on. */
#ifndef SNAPTREE_MOUNTPOINT_H
#define SNAPTREE_MOUNTPOINT_H

#include <qcow.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * The real path of a mountpoint (g_free), or NULL after saying what is wrong with it. A mount of
 * this program that is left there, and whose daemon is gone, is taken away.
 */
char *mountpoint_check(const char *store, const char *mountpoint);

/*
 * Have the kernel follow no symbolic link in the tree that is mounted there. The tree has none, but
 * a process that serves it, once taken over, could make some up, and lead programs elsewhere. Done
 * where the kernel can and our rights allow it. The gate has to know its own device by then; the
 * tree need not be served yet.
 */
void mountpoint_forbid_links(const QcGate *gate, const char *mountpoint);

/*
 * Whether unmounting there takes away the tree of that device (0: not known), and nothing else.
 * Says so when something else is mounted there.
 */
bool mountpoint_may_unmount(const char *mountpoint, dev_t device);

/*
 * The number of the mount on top at a path, one that the kernel gives out only once (Linux 6.8); 0:
 * not known. The file system is asked nothing.
 */
uint64_t mountpoint_number(const char *path);

/*
 * Take away what is left of the tree of that device and number (0: not known) if it was not
 * unmounted at its mountpoint: a directory above was renamed, or a forced unmount only ended the
 * connection. Without a number nothing is done: the device's may be another file system's by now.
 * Whether anything was taken away.
 */
bool mountpoint_clear(dev_t device, uint64_t number);

#endif
