/* openfiles.h - the files that processes of this machine have open, with QEMU's locks on them. */
#ifndef SNAPTREE_OPENFILES_H
#define SNAPTREE_OPENFILES_H

#include "qcow.h"

/* A file that a process has open. */
typedef struct OpenFile {
    pid_t pid;
    QcFileStat stat;  /* only what tells which file it is: dev, ino, rdev, and the kind in mode */
    bool bars_writer; /* the process has a lock on it that keeps a writer out */
    bool writes;      /* and one that says that it writes */
} OpenFile;

/* Whether a file is wanted; of stat, the same is set as in an OpenFile. */
typedef bool (*OpenFileFilter)(const QcFileStat *stat, const void *data);

/*
 * The wanted files that any process has open but one, our own. An array of OpenFile, of each
 * process one after another (g_array_unref). ret_err (may be NULL): 0: all processes were looked
 * at; -EACCES: some may not be; -ETIMEDOUT: it would have taken too long; or as there is a shortage
 * (see qc_is_shortage).
 */
GArray *openfiles_find(OpenFileFilter filter, const void *data, pid_t except, int *ret_err);

#endif
