/* walk.h - resolving a path without ever entering one file system. */
#ifndef QCOW_WALK_H
#define QCOW_WALK_H

#include <stdint.h>
#include <sys/types.h>

/*
 * As openat(dirfd, path, O_PATH | O_CLOEXEC): a descriptor or -errno; -EDEADLK when the path
 * leads into, or through, the file system with this device number.
 */
int qc_walk(int dirfd, const char *path, uint64_t forbidden);

/*
 * openat2(2), which the C library does not offer, with O_CLOEXEC: a descriptor or -errno. Tried
 * again where a rename, of any file of the machine, raced with "..". Not without end, as anybody
 * can rename all the time, and an image can name a path that is full of "..": -EAGAIN.
 */
int qc_openat2(int dirfd, const char *path, int flags, uint64_t resolve);

/* The device number and the kind (S_IFMT) of what a descriptor stands for, without asking its file
 * system. */
int qc_walk_look(int fd, uint64_t *ret_device, mode_t *ret_kind);

#endif
