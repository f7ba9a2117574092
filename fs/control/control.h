/* control.h - the control files: commands that are written, results that are read. */
#ifndef SNAPTREE_CONTROL_H
#define SNAPTREE_CONTROL_H

#include "fs.h"

/* An open control file. Reference-counted: a running write holds one. */
typedef struct Control Control;

/*
 * image: path of the image whose control file it is; "": the store's. That one tells a user of this
 * user's commands only, as others may be on images that the user cannot see. Root, and the user who
 * has mounted, are told of all.
 */
Control *control_open(Fs *fs, const char *image, const Creds *creds);
void control_unref(Control *control); /* accepts NULL */

/*
 * Run what was written, with the rights that the writer (creds) and the opener have in common.
 * Answers req itself, later, from another thread. Takes creds.
 */
void control_write(Control *control, fuse_req_t req, const char *bytes, size_t len, Creds *creds);

/* The text that a read at this offset is to give. */
GBytes *control_read(Control *control, size_t len, uint64_t offset);

#endif
