/*
 * passthrough.h - files that the kernel reads by itself, without asking for each piece: since
 * Linux 6.9, and for root. Whatever libfuse's version, as it does not know of it.
 */
#ifndef SNAPTREE_PASSTHROUGH_H
#define SNAPTREE_PASSTHROUGH_H

#include "qcow.h"

struct fuse_req;
struct fuse_file_info;

/*
 * Tell the kernel of the regular file at a path of the store. device: of /dev/fuse. file: the one
 * that is meant. Returns the kernel's number of the file, at least 1, which passthrough_end() takes
 * back; or -errno, and the file is to be read as usual: -ESTALE when another file lies there by
 * now; -EXDEV with backing=any, which leads out of the store; -EINVAL on a file system without
 * direct I/O, which programs may ask for when they open the file. The kernel holds the file for as
 * long as it is open in the tree, whether it has a number or not. Thread-safe.
 */
int passthrough_begin(int device, QcGate *gate, const char *path, const QcFileStat *file);
/* -errno: there is no such number. Thread-safe. */
int passthrough_end(int device, int number);

/*
 * As fuse_reply_open(): the kernel is to read that file by itself. With fi->direct_io it asks the
 * daemon nevertheless, but for what is mapped. Other flags of fi have no meaning here.
 */
int passthrough_reply(struct fuse_req *req, const struct fuse_file_info *fi, int number);

#endif
