/*
 * census.h - which other processes use block devices, by whatever node.
 *
 * A lock belongs to the node that a device was opened by, and a device may have several: those of a
 * virtual machine under libvirt lie in a /dev of its own. So no lock tells of a process that uses
 * another node. What that process has open does.
 */
#ifndef SNAPTREE_CENSUS_H
#define SNAPTREE_CENSUS_H

#include "qcow.h"

typedef struct Census Census;

/* except: a process that does not count, because it is our own. */
Census *census_new(pid_t except);
void census_free(Census *census); /* accepts NULL */

/*
 * Whether a process has a device open under one of QEMU's locks. write: under one that keeps a
 * writer out; else under one that says that the process writes. since: on the monotonic clock, when
 * the look that answers may have begun at the earliest. 0: none has. -EBUSY: *ret has the
 * processes, as holder_find() names them (g_free). -EACCES, -ETIMEDOUT, a shortage: none was found,
 * but not all processes could be looked at, or not in time. Thread-safe.
 */
int census_find(Census *census, uint64_t device, bool write, gint64 since, char **ret);

#endif
