/* ops.h - the requests of the kernel. */
#ifndef SNAPTREE_OPS_H
#define SNAPTREE_OPS_H

#include "fs.h"

/* The operations; the session's user data is an Fs ** that is set before the loop runs. */
extern const struct fuse_lowlevel_ops ops_table;

#endif
