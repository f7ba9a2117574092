/*
 * watched.h - who writes to a file that a reader rests on.
 *
 * Of most files their stat tells, later, that somebody has written. Of a live file, and of a block
 * device, it is asked at each read.
 */
#ifndef SNAPTREE_WATCHED_H
#define SNAPTREE_WATCHED_H

#include "fs.h"

/*
 * Whether another process writes to a file: 0; -EBUSY; another -errno: that cannot be told. locked:
 * we hold a lock on it, so that locks cannot be asked about is an error; other storage may have
 * none. max_age: of what is known of the other nodes of a block device (see fs.h).
 */
int watched_ask(Fs *fs, QcFile *file, const QcFileStat *stat, bool locked, unsigned max_age);

/* A file that is asked about again and again. Thread-safe. */
typedef struct Watched Watched;

Watched *watched_new(QcFile *file, const QcFileStat *stat, bool locked);
void watched_free(Watched *watched);
/* watched_ask(), but for other nodes of a device once a second at most. */
int watched_check(Watched *watched, Fs *fs);

#endif
