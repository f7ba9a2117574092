/* claimset.c - see claimset.h. */
#include "claimset.h"

typedef struct Claim {
    QcFileStat file;
    char *part;
} Claim;

struct ClaimSet {
    Claims *claims;
    char *path;
    GArray *held; /* of Claim */
};

static void claim_clear(gpointer claim)
{
    g_free(((Claim *)claim)->part);
}

ClaimSet *claimset_new(Claims *claims, const char *path)
{
    ClaimSet *set = g_new0(ClaimSet, 1);

    set->claims = claims;
    set->path = g_strdup(path);
    set->held = g_array_new(FALSE, FALSE, sizeof(Claim));
    g_array_set_clear_func(set->held, claim_clear);
    return set;
}

void claimset_free(ClaimSet *set)
{
    if (!set)
        return;
    for (guint i = 0; i < set->held->len; i++) {
        const Claim *claim = &g_array_index(set->held, Claim, i);

        claims_drop(set->claims, &claim->file, claim->part, set->path);
    }
    g_array_unref(set->held);
    g_free(set->path);
    g_free(set);
}

int claimset_hold(ClaimSet *set, const QcFileStat *file, const char *part)
{
    int r = claims_hold(set->claims, file, part, set->path);

    if (r == 0) {
        Claim claim = {.file = *file, .part = g_strdup(part)};

        g_array_append_val(set->held, claim);
    }
    return r;
}

GPtrArray *claimset_pause(ClaimSet *set, gint64 since)
{
    GPtrArray *paused = g_ptr_array_new();

    for (guint i = 0; i < set->held->len; i++) {
        QcFileStat *file = &g_array_index(set->held, Claim, i).file;

        if (claims_pause(set->claims, file, since))
            g_ptr_array_add(paused, file);
    }
    return paused;
}

void claimset_resume(ClaimSet *set, GPtrArray *paused)
{
    for (guint i = 0; i < paused->len; i++)
        claims_resume(set->claims, paused->pdata[i]);
    g_ptr_array_unref(paused);
}
