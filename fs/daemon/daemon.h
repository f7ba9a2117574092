/* daemon.h - from checked options to a mounted tree, and to its end. */
#ifndef SNAPTREE_DAEMON_H
#define SNAPTREE_DAEMON_H

#include "options.h"

/* Mount, serve until unmounted, clean up. Returns the exit status of the program. */
int daemon_run(const Options *options);

#endif
