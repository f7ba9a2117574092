/* holder.h - which other processes of this machine have a file open. */
#ifndef SNAPTREE_HOLDER_H
#define SNAPTREE_HOLDER_H

#include "qcow.h"

/*
 * "qemu-system-x86 (process 4711)", several of them with commas between; NULL when none was
 * found, because the process is on another machine or not ours to look at. except: a process
 * that does not count, because it is our own.
 */
char *holder_find(const QcFileStat *file, pid_t except);

#endif
