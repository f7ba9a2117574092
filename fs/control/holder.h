/* holder.h - which other processes of this machine are in the way of a command. */
#ifndef SNAPTREE_HOLDER_H
#define SNAPTREE_HOLDER_H

#include "openfiles.h"

/*
 * The processes that keep a writer out by a lock: "qemu-system-x86 (process 4711) has"; of several,
 * with commas between them and "have" behind. Where no such lock is to be seen, as not all file
 * systems show them: the processes that have the file open. NULL when none was found, because the
 * process is on another machine or not ours to look at. except: a process that does not count,
 * because it is our own.
 */
char *holder_find(const QcFileStat *file, pid_t except);

/* The same words of the processes in an array of OpenFile. NULL: it is empty. */
char *holder_names(const GArray *files);

#endif
