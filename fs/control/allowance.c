/*
 * allowance.c - see allowance.h.
 *
 * A user is in the table for as long as something is taken. Allowance.lock protects everything.
 */
#include "allowance.h"

struct Allowance {
    unsigned each, all;
    GMutex lock;
    GHashTable *taken; /* uid -> how many, never 0; protected by lock */
    unsigned total;    /* lock */
};

Allowance *allowance_new(unsigned each, unsigned all)
{
    Allowance *allowance = g_new0(Allowance, 1);

    allowance->each = each;
    allowance->all = all;
    g_mutex_init(&allowance->lock);
    allowance->taken = g_hash_table_new(NULL, NULL);
    return allowance;
}

void allowance_free(Allowance *allowance)
{
    if (!allowance)
        return;
    g_hash_table_unref(allowance->taken);
    g_mutex_clear(&allowance->lock);
    g_free(allowance);
}

/* Lock held. */
static unsigned count_of(const Allowance *allowance, uid_t uid)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(allowance->taken, GUINT_TO_POINTER(uid)));
}

/* Lock held. */
static void set_count(Allowance *allowance, uid_t uid, unsigned count)
{
    if (count > 0)
        g_hash_table_insert(allowance->taken, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(count));
    else
        g_hash_table_remove(allowance->taken, GUINT_TO_POINTER(uid));
}

bool allowance_take(Allowance *allowance, uid_t uid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&allowance->lock);
    unsigned count = count_of(allowance, uid);

    if (count >= allowance->each || allowance->total >= allowance->all)
        return false;
    set_count(allowance, uid, count + 1);
    allowance->total++;
    return true;
}

void allowance_give_back(Allowance *allowance, uid_t uid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&allowance->lock);

    set_count(allowance, uid, count_of(allowance, uid) - 1);
    allowance->total--;
}
