/* claimset.h - the claims of one open file: the parts of files that it rests on (claims.h). */
#ifndef SNAPTREE_CLAIMSET_H
#define SNAPTREE_CLAIMSET_H

#include "claims.h"

/* Filled by one thread, then shared; claims is borrowed. */
typedef struct ClaimSet ClaimSet;

/* path: of the image in the store that the file is opened in. */
ClaimSet *claimset_new(Claims *claims, const char *path);
/* Drops what is held. Accepts NULL. */
void claimset_free(ClaimSet *set);

/* As claims_hold(): -EBUSY while a command changes the part. */
int claimset_hold(ClaimSet *set, const QcFileStat *file, const char *part);

/*
 * claims_pause() of each file, in order; and claims_resume() of those that are paused, which takes
 * what claimset_pause() has returned. Thread-safe.
 */
GPtrArray *claimset_pause(ClaimSet *set, gint64 since);
void claimset_resume(ClaimSet *set, GPtrArray *paused);

#endif
