/* tune.h - limits of the process and of the mount that are too low by default. */
#ifndef SNAPTREE_TUNE_H
#define SNAPTREE_TUNE_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Allow as many open files as the hard limit does: each layer of a chain is one. False, after
 * saying why: with so few, or with so small a stack, not even the tree's root could be served.
 */
bool tune_limits(void);

/*
 * Have the kernel make room for a few thousand open files in its table. It does so by itself, but
 * while there are threads it waits each time until no processor looks at the old table: a chain of
 * 200 layers waited twice, for half of the time that opening it took. A process that is forked off
 * has a small table again. Call it before the first thread is started. fd: any that is open.
 */
void tune_file_table(int fd);

/*
 * Let the kernel read 1 MiB ahead on this mount. That works only once the mount has been
 * initialised, when the setting can no longer be opened: so it is opened first (-1: it cannot be,
 * as only root can; that costs nothing but speed), and written at the first open of a file.
 * tune_read_ahead() may be called at each open, by any thread: it writes at its first call only.
 */
int tune_open_read_ahead(dev_t device);
void tune_read_ahead(int fd);

#endif
