/*
 * disks.h - what the disks of an image hold, at a bounded number of places.
 *
 * A disk of a hostile image may have 2^62 bytes, so not all of it can be read: probes are
 * chosen where its extents begin and end. Taken before a command and looked at again after
 * it, they tell whether the command changed what it must not.
 */
#ifndef TESTS_DISKS_H
#define TESTS_DISKS_H

#include "memfile.h"
#include "qcow.h"

enum {
    DISKS_MAX_SNAPSHOTS = 6, /* that are looked at */
    DISKS_MAX_EXTENTS = 16,  /* of each disk */
    DISKS_PROBE = 192,       /* bytes read at either end of an extent */
};

/* One place of a disk. */
typedef struct Probe {
    uint64_t offset;
    ssize_t len;     /* what qc_view_read returned */
    uint64_t digest; /* of these bytes */
} Probe;

typedef struct Disk {
    uint64_t size;
    GByteArray *name; /* of the snapshot; empty for the active disk */
    GArray *probes;   /* of Probe */
} Disk;

typedef struct Disks {
    QcCache *cache;
    QcImage *image;
    QcChain *chain;
    GPtrArray *list; /* of Disk: the active one, then the snapshots as in the table */
} Disks;

/* Open the image and look at it; NULL when it cannot be opened. */
Disks *disks_open(MemFile *file);
void disks_free(Disks *disks); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Disks, disks_free)

static inline Disk *disks_get(const Disks *disks, unsigned i)
{
    return i < disks->list->len ? disks->list->pdata[i] : NULL;
}

/* A view of disk i (0: the active one; i: snapshot i - 1). A new reference. */
QcView *disks_view(const Disks *disks, unsigned i);

/*
 * Require that a disk reads at each probe as it did then, where that could be read. Probes
 * that touch [skip, skip_end) are left out.
 */
void disks_require_same(const Disk *then, QcView *now, uint64_t skip, uint64_t skip_end);

#endif
