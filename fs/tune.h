/* tune.h - limits of the process and of the mount that are too low by default. */
#ifndef SNAPTREE_TUNE_H
#define SNAPTREE_TUNE_H

#include "fs.h"

/* As many open files as we may have: chains are long. */
void tune_open_files(void);

/*
 * Let the kernel read 1 MiB ahead on this mount. Works once the mount has been initialised,
 * so it is called at every open, and does something at the first. For root only; failing
 * costs nothing but speed.
 */
void tune_read_ahead(Fs *fs);

#endif
