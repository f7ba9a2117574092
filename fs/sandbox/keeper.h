/*
 * keeper.h - the process that stays outside the sandbox, and how the worker asks it.
 *
 * The daemon is two processes. The worker serves the tree, and is confined (sandbox.h) because
 * it parses images. Its parent, the keeper, looks at no image: it waits for the worker's end
 * and unmounts, hands signals on, unmounts early when the worker does not end then, and does what a
 * confined process cannot: a few small things, each a function here.
 */
#ifndef SNAPTREE_KEEPER_H
#define SNAPTREE_KEEPER_H

#include "qcow.h"

/*
 * Unmount, called in the keeper, when the worker goes on some seconds after a signal that is to end
 * it, or after it has told that it ends: in a command, or in a file system that does not answer.
 * Closes the device of /dev/fuse. Whether there was anything to unmount.
 */
typedef bool (*KeeperUnmount)(void *data);

/* The worker's way to its keeper. Thread-safe. */
typedef struct Keeper Keeper;

/*
 * Fork. Returns twice: in the worker, which has its *ret_keeper, and in the keeper, with NULL
 * there, when the worker has ended with *ret_status. Not with threads running, and with the
 * signals that end a daemon held (signals.h), so that none is lost: the keeper reads them and
 * hands them on, the worker lets them come once it is ready. -errno: could not fork; there is
 * only the caller.
 *
 * gate: which devices the worker may have; for writing too, when may_write. device: of /dev/fuse,
 * borrowed.
 */
int keeper_split(QcGate *gate, bool may_write, int device, KeeperUnmount unmount, void *data,
                 Keeper **ret_keeper, int *ret_status);

/*
 * Whether the keeper has died before its worker. The worker gets SIGTERM then; nobody is left who
 * could unmount.
 */
bool keeper_is_gone(const Keeper *keeper);

/*
 * As holder_find(), which has to look at the descriptors of other processes. keeper NULL: it is
 * called here.
 */
char *keeper_find_holder(Keeper *keeper, const QcFileStat *file);

/* As census_find(), which has to look at these too. */
int keeper_find_user(Keeper *keeper, uint64_t device, bool write, gint64 since, char **ret);

/* A QcDeviceOpener; data is the Keeper. */
int keeper_open_device(void *data, const char *path, bool write);

/* As passthrough_begin() and passthrough_end(). */
int keeper_begin_passthrough(Keeper *keeper, const char *path, const QcFileStat *file);
void keeper_end_passthrough(Keeper *keeper, int number);

/*
 * The worker serves no requests any more; it finishes its commands, for which the keeper does not
 * leave the tree mounted for more than some seconds.
 */
void keeper_tell_ending(Keeper *keeper);

/* A LogSink; data is the Keeper: lines reach syslog although a worker cannot make a socket. */
void keeper_log(void *data, int priority, const char *line);

#endif
