/* creds.h - the user who asks, and what the mode of a file lets this user do. */
#ifndef SNAPTREE_CREDS_H
#define SNAPTREE_CREDS_H

#include "qcow.h"

/*
 * One caller. A process that writes through a descriptor which another user has opened has only the
 * rights that both users have: a set-user-id program may not know what its standard error is, and a
 * user who hands a descriptor on does not hand on rights.
 */
typedef struct Creds {
    uid_t uid;
    gid_t gid;
    GArray *groups;             /* of gid_t, supplementary */
    const struct Creds *opener; /* borrowed; NULL: the caller */
} Creds;

enum {
    CREDS_READ = 4,
    CREDS_WRITE = 2,
    CREDS_SEARCH = 1,
};

Creds *creds_new(uid_t uid, gid_t gid, const gid_t *groups, unsigned n_groups);
Creds *creds_copy(const Creds *creds);
void creds_free(Creds *creds); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Creds, creds_free)

/* Whether all rights are there: the caller is root, and so is the opener. */
bool creds_is_root(const Creds *creds);
/* Whether the caller alone, whatever the opener is, is root or the user who has mounted. */
bool creds_is_trusted(const Creds *creds);

/* Whether the caller has the wanted CREDS_ bits on a file. */
bool creds_may(const Creds *creds, const QcFileStat *file, unsigned want);

#endif
