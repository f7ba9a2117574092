/*
 * qcow-gate.h - the gate: opening files by name, and the backing files that images name.
 *
 * Conventions are those of qcow.h, which includes this.
 */
#ifndef QCOW_GATE_H
#define QCOW_GATE_H

#include "qcow-file.h"

G_BEGIN_DECLS

/* Which files an image may pull in by naming them as its backing file. */
typedef enum QcBackingPolicy {
    QC_BACKING_DENY,  /* none */
    QC_BACKING_STORE, /* those inside the store */
    QC_BACKING_ANY,   /* any regular file or block device */
} QcBackingPolicy;

/*
 * A store directory and the rule for what may be opened. No other part of the engine opens a
 * file by name. What it opens is a regular file or a block device, found without leaving the
 * store (openat2 RESOLVE_BENEATH); a symbolic link out of the store is followed only to a
 * block device. A file is looked at (O_PATH) before it is opened, so no FIFO, socket or
 * character device is ever opened. Reference-counted. Immutable once shared, after its setters,
 * and then thread-safe.
 *
 * Paths are relative to the store ("team-a/web.qcow2"); absolute where QC_BACKING_ANY led
 * outside.
 */
typedef struct QcGate QcGate;

/* store: a path of a directory; copied. -ENOENT, -ENOTDIR, -EACCES, ... as open(2). */
int qc_gate_new(const char *store, QcBackingPolicy policy, QcGate **ret, GError **error);
QcGate *qc_gate_ref(QcGate *gate); /* one more reference; returns gate */
void qc_gate_unref(QcGate *gate);  /* drop one; accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcGate, qc_gate_unref)

/* A descriptor of the store directory (O_PATH); it stays the gate's. */
int qc_gate_dirfd(const QcGate *gate);

/* The store's absolute path without symbolic links; owned by the gate. */
const char *qc_gate_store(const QcGate *gate);

/* A path of the gate as an absolute one (g_free). NULL: no memory. Thread-safe. */
char *qc_gate_full_path(const QcGate *gate, const char *path);

/*
 * Open a file of the store. -ENOENT when there is none, -EXDEV when the path leads out of the
 * store, -EACCES, -EROFS (write only), -EDEADLK when it lies in this very tree, -EOPNOTSUPP when
 * it is no regular file or block device, -EBUSY when a program holds a lease on it (only an open
 * for writing waits for the lease's end, a tenth of a second or so); -ENOMEM, and as open(2).
 */
int qc_gate_open(QcGate *gate, const char *path, bool write, QcFile **ret, GError **error);
/*
 * A descriptor of what lies at a path of the store, or for "" of the store's own directory. No
 * symbolic link is followed, not even as the last name. flags as of open(2). The caller closes
 * it. -errno. Thread-safe.
 */
int qc_gate_open_plain(QcGate *gate, const char *path, int flags);
/*
 * The stat of what qc_gate_open() would open, without opening it; of a block device, size is 0.
 * Fails as that does, but not with -EOPNOTSUPP: it may be anything. Thread-safe.
 */
int qc_gate_stat(QcGate *gate, const char *path, QcFileStat *ret);

/*
 * Open the file that the image at path overlay names as its backing file, read-only. name is
 * taken as QEMU takes it: a path relative to the overlay's directory, or absolute. The same behind
 * "file:", where QEMU, however, takes a relative path from its working directory. Any other
 * protocol and "json:" are refused with -EOPNOTSUPP; what the policy forbids, with -EPERM; an empty
 * name, with -EINVAL. Else it fails as qc_gate_open() does. A path may leave the store when its
 * text says that it comes back: by the names of qc_gate_store(), or, absolute, of the path that
 * qc_gate_new() got. ret_path receives the path, as one inside the store where it is (g_free).
 */
int qc_gate_open_backing(QcGate *gate, const char *overlay, const char *name, char **ret_path,
                         QcFile **ret, GError **error);

/*
 * The name of a backing file as QEMU completes it: a relative one seen from the directory of the
 * image at path overlay, any other as it is (g_free). By text alone. NULL: no memory. Thread-safe.
 */
char *qc_backing_full_name(const char *overlay, const char *name);

/*
 * The device number (st_dev) of a file system that this process serves itself: a name that
 * leads into it is refused with -EDEADLK. To be set before the gate is shared.
 */
void qc_gate_set_own_device(QcGate *gate, uint64_t device);
/* Whether a descriptor (O_PATH) is of that file system. No file system is asked. Thread-safe. */
bool qc_gate_is_own(const QcGate *gate, int fd);

/*
 * How block devices are opened where this process may not do so itself: given the path that was
 * to be opened, a new descriptor, or -errno. Called from any thread.
 */
typedef int (*QcDeviceOpener)(void *data, const char *path, bool write);
/* To be set before the gate is shared. data is borrowed. */
void qc_gate_set_device_opener(QcGate *gate, QcDeviceOpener opener, void *data);

/* The policy of this gate. */
QcBackingPolicy qc_gate_policy(const QcGate *gate);

G_END_DECLS
#endif
