/*
 * claims.h - which parts of an image file are in use inside this daemon, and for what: open handles
 * read parts; one command at a time works on a file, and may change a part.
 */
#ifndef SNAPTREE_CLAIMS_H
#define SNAPTREE_CLAIMS_H

#include "qcow.h"

typedef struct Claims Claims;

#define CLAIMS_DISK  "disk" /* the part that the active disk is */
#define CLAIMS_NAMED 16u    /* paths that claims_readers() gives at most */

/* What a file is known by here, whatever its names are (g_free). */
char *claims_key(const QcFileStat *file);
/* The same for longer than the file may exist: what took its place and its number is another. */
char *claims_lasting_key(const QcFileStat *file);

Claims *claims_new(void);
void claims_free(Claims *claims); /* accepts NULL */

/*
 * An open handle starts reading a part of a file. path: of the image in the store that was opened:
 * the file itself, or an overlay on it. -EBUSY while a command changes the part.
 */
int claims_hold(Claims *claims, const QcFileStat *file, const char *part, const char *path);
void claims_drop(Claims *claims, const QcFileStat *file, const char *part, const char *path);
/* The paths of the open images that read a part: some of them, each once, sorted (g_strfreev). */
char **claims_readers(Claims *claims, const QcFileStat *file, const char *part);

/*
 * Start a command on a file, after the one before, and after pauses unless they last. -EIO when the
 * file is poisoned.
 */
int claims_begin(Claims *claims, const QcFileStat *file);
/* The running command has QEMU's writer locks on the file. */
void claims_locked(Claims *claims, const QcFileStat *file);
/* It is about to drop them, and to end. */
void claims_unlocking(Claims *claims, const QcFileStat *file);
/* The running command will change this part. -EBUSY when a handle goes on reading it. */
int claims_change(Claims *claims, const QcFileStat *file, const char *part);
/* The command is over. poison: what is on disk is not known; refuse all further commands. */
void claims_end(Claims *claims, const QcFileStat *file, bool poison);

/*
 * Keep commands off a file for a moment, for a reader that they have overtaken again and again
 * since that time (monotonic, microseconds); waits a moment for the command that runs. Several
 * readers may pause at once. True: claims_resume() has to follow. False: it is still running, or no
 * command has worked on the file since, so that it is something else that overtakes the reader.
 */
bool claims_pause(Claims *claims, const QcFileStat *file, gint64 since);
void claims_resume(Claims *claims, const QcFileStat *file);

/*
 * Whether a command of ours has the writer locks of the file now; waits while one is trying to get
 * them, or drops them. ret_epoch grows whenever a command begins, has its locks or ends, on any
 * file, so that two equal values tell that none did in between.
 */
bool claims_busy(Claims *claims, const QcFileStat *file, uint64_t *ret_epoch);

#endif
