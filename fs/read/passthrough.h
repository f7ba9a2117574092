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
 * Tell the kernel of a regular file of the store, as it lies there now. device: of /dev/fuse. file:
 * the one that is meant; when another lies there by now, -ESTALE. With backing=any, which leads out
 * of the store, -EXDEV. On a file system without direct I/O, which whoever opens it may ask for,
 * -EINVAL. Returns the kernel's number of it, at least 1, which passthrough_end()
 * takes back; or -errno: it is to be read as usual. The kernel holds the file for as long as it is
 * open in the tree, number or not. Thread-safe.
 */
int passthrough_begin(int device, QcGate *gate, const char *path, const QcFileStat *file);
/* -errno: there is no such number. Thread-safe. */
int passthrough_end(int device, int number);

/*
 * fuse_reply_open(): the kernel is to read that file; with fi->direct_io it asks all the same, but
 * for what is mapped. Other flags of fi have no meaning here.
 */
int passthrough_reply(struct fuse_req *req, const struct fuse_file_info *fi, int number);

#endif
