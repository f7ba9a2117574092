/*
 * watch.h - being told by the kernel that a file was changed, instead of looking at it.
 *
 * A look at a file costs a system call; a chain has hundreds of files. A watcher asks for all of
 * its files at once, in one call. What it hears of is a change by write(2) and its like, io_uring,
 * truncation, holes punched, clones, and attributes set, on this machine; and it hears of each
 * before the call that made it returns. It hears nothing of writes by libaio, through a memory
 * mapping or a loop device: where somebody could do that, a look from time to time is still due.
 */
#ifndef QCOW_WATCH_H
#define QCOW_WATCH_H

#include "qcow-file.h"

/* Shared by all files of a store. Thread-safe. */
typedef struct QcWatcher QcWatcher;

/* NULL: the kernel has none to give, or there is no memory. */
QcWatcher *qc_watcher_new(void);
QcWatcher *qc_watcher_ref(QcWatcher *watcher);
void qc_watcher_unref(QcWatcher *watcher); /* accepts NULL */

/*
 * How many changes of all its files it has heard of, up to this moment; never 0. To ask for it
 * before a look at a file, and to find that nothing has happened to the file later than that, means
 * that the look still holds.
 */
uint64_t qc_watcher_count(QcWatcher *watcher);

/* One watched file; those of the same file are one. */
typedef struct QcWatch QcWatch;

/*
 * Watch a file. *ret is NULL where it cannot be told when that changes - another machine may write
 * to it, the kernel has no more watches, watcher is NULL - so that it has to be looked at. -ENOMEM.
 */
int qc_watch_new(QcWatcher *watcher, QcFile *file, QcWatch **ret);
void qc_watch_unref(QcWatch *watch); /* accepts NULL */

/*
 * The count at the last change of the file that it has heard of by the last qc_watcher_count(); 0:
 * none. UINT64_MAX: it hears nothing of the file any more.
 */
uint64_t qc_watch_last(const QcWatch *watch);

QcWatcher *qc_watch_watcher(const QcWatch *watch); /* borrowed */

#endif
