/* info.h - the text of info.json. */
#ifndef SNAPTREE_INFO_H
#define SNAPTREE_INFO_H

#include "fs.h"

/* What `qemu-img info --output=json` says about the image, and a "snaptree" object; NULL: no
 * memory. */
GBytes *info_text(Fs *fs, Image *image);

#endif
