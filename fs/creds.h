/* creds.h - who asks, and what the mode of a file lets them do. */
#ifndef SNAPTREE_CREDS_H
#define SNAPTREE_CREDS_H

#include "qcow.h"

/* One caller. */
typedef struct Creds {
    uid_t uid;
    gid_t gid;
    GArray *groups; /* of gid_t, supplementary */
} Creds;

enum {
    CREDS_READ = 4,
    CREDS_WRITE = 2,
    CREDS_SEARCH = 1,
};

Creds *creds_new(uid_t uid, gid_t gid, const gid_t *groups, unsigned n_groups);
void creds_free(Creds *creds); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Creds, creds_free)

/* Whether the caller has the wanted CREDS_ bits on a file. */
bool creds_may(const Creds *creds, const QcFileStat *file, unsigned want);

#endif
