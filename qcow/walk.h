/* walk.h - resolving a path without ever entering one file system. */
#ifndef QCOW_WALK_H
#define QCOW_WALK_H

#include <stdint.h>

/*
 * As openat(dirfd, path, O_PATH | O_CLOEXEC): a descriptor or -errno; -EDEADLK when the path
 * leads into, or through, the file system with this device number.
 */
int qc_walk(int dirfd, const char *path, uint64_t forbidden);

/* The device number of what a descriptor stands for, without asking its file system. */
int qc_walk_device(int fd, uint64_t *ret);

#endif
