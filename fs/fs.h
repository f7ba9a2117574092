/* fs.h - one mounted file system, with all its parts. */
#ifndef SNAPTREE_FS_H
#define SNAPTREE_FS_H

#include <fuse_lowlevel.h>
#include <stdatomic.h>

#include "ahead.h"
#include "allowance.h"
#include "buffers.h"
#include "census.h"
#include "channel.h"
#include "claims.h"
#include "formerly.h"
#include "greeting.h"
#include "images.h"
#include "journal.h"
#include "keeper.h"
#include "listing.h"
#include "node.h"
#include "options.h"
#include "ring.h"
#include "serial.h"

#define FS_MAX_REQUEST (1024u * 1024u) /* bytes of one read or write */

/*
 * How many asynchronous requests the kernel hands over at a time. While that many are under way,
 * reads through the page cache wait. So there may be fewer writes to control files: so many of one
 * user, and so many of all users together but the trusted ones (creds_is_trusted()).
 */
#define FS_MAX_BACKGROUND 64u
#define FS_WRITES_EACH    16u
#define FS_WRITES_ALL     32u

#define FS_RECENT_MS 1000u /* see fs_find_device_user() */

/* Pointers are set before the first request and stay; each part locks itself. */
typedef struct Fs {
    QcGate *gate;
    Images *images;
    Nodes *nodes;
    Listings *listings;
    Claims *claims;
    Census *census;      /* NULL: the keeper has it */
    atomic_bool looking; /* a reader asks it, or the keeper, who writes to a device */
    Formerly *formerly;
    Journal *journal;
    Serial *serial;
    Allowance *writes; /* to control files, until they are answered */
    Buffers *buffers;
    AheadPool *ahead;
    Channel *channel;
    Greeting *greeting;
    Ring *ring;                 /* borrowed; NULL: requests come through the device */
    const void *zeros;          /* FS_MAX_REQUEST bytes */
    Keeper *keeper;             /* borrowed; NULL: there is none */
    int device;                 /* of /dev/fuse; borrowed */
    atomic_bool ending;         /* commands that wait are not begun any more */
    atomic_bool passes_nothing; /* the kernel refuses passthrough, so it is asked no more */
    int read_ahead;             /* see tune.h; owned */
    unsigned max_read; /* bytes of a request, as the mount option has it; 0: none was given */
    bool read_only;
    bool splices_pages; /* sendfile(2) uses the page cache also of a file opened past it */
} Fs;

/* Starts threads: not before the daemon has forked and is confined. 0; -ENOMEM; -EAGAIN: it cannot
 * start them. */
int fs_new(QcGate *gate, Keeper *keeper, int device, int read_ahead, const Options *options,
           Fs **ret);
/* Waits for running commands. Accepts NULL. */
void fs_free(Fs *fs);

/*
 * Have the kernel read a file by itself. Returns the kernel's number of the file; 0 when it cannot;
 * -ESTALE: another file lies there by now. fs_end_passthrough() takes that back; see passthrough.h.
 * Thread-safe.
 */
int fs_begin_passthrough(Fs *fs, const char *path, const QcFileStat *file);
void fs_end_passthrough(Fs *fs, int number);

/* Whether another process has the image open for writing, as QEMU's locks tell: 1, 0; -errno: they
 * cannot be asked about. Thread-safe. */
int fs_has_foreign_writer(Fs *fs, QcFile *file, const QcFileStat *stat);

/*
 * As census_find() of the block device that stat is of; 0 of any other file. max_age, in
 * milliseconds, of the answer: 0, or FS_RECENT_MS where many may ask one after another.
 */
int fs_find_device_user(Fs *fs, const QcFileStat *stat, bool write, unsigned max_age, char **ret);
/*
 * Whether one is found that writes: 1, or 0, also where we may never look at all processes; -errno:
 * it cannot be told this time, as it takes too long (-EBUSY), or something is short.
 */
int fs_has_device_writer(Fs *fs, const QcFileStat *stat, unsigned max_age);

#endif
