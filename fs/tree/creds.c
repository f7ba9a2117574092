/* creds.c - see creds.h. */
#include "creds.h"

#include <unistd.h>

Creds *creds_new(uid_t uid, gid_t gid, const gid_t *groups, unsigned n_groups)
{
    Creds *creds = g_new0(Creds, 1);

    creds->uid = uid;
    creds->gid = gid;
    creds->groups = g_array_new(FALSE, FALSE, sizeof(gid_t));
    g_array_append_vals(creds->groups, groups, n_groups);
    return creds;
}

Creds *creds_copy(const Creds *creds)
{
    const GArray *groups = creds->groups;
    Creds *copy = creds_new(creds->uid, creds->gid, (const gid_t *)groups->data, groups->len);

    copy->opener = creds->opener;
    return copy;
}

void creds_free(Creds *creds)
{
    if (!creds)
        return;
    g_array_unref(creds->groups);
    g_free(creds);
}

static bool in_group(const Creds *creds, gid_t gid)
{
    bool found = creds->gid == gid;

    for (guint i = 0; i < creds->groups->len && !found; i++)
        found = g_array_index(creds->groups, gid_t, i) == gid;
    return found;
}

bool creds_is_root(const Creds *creds)
{
    return creds->uid == 0 && (!creds->opener || creds_is_root(creds->opener));
}

bool creds_is_trusted(const Creds *creds)
{
    return creds->uid == 0 || creds->uid == geteuid();
}

/* Of the caller alone. */
static bool has_bits(const Creds *creds, const QcFileStat *file, unsigned want)
{
    unsigned shift = 0;

    if (creds->uid == 0)
        return true;
    if (creds->uid == file->uid)
        shift = 6;
    else if (in_group(creds, file->gid))
        shift = 3;
    return (file->mode >> shift & want) == want;
}

bool creds_may(const Creds *creds, const QcFileStat *file, unsigned want)
{
    return has_bits(creds, file, want) && (!creds->opener || creds_may(creds->opener, file, want));
}
