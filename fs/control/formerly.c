/*
 * formerly.c - see formerly.h. Commands only come here, so a list that is gone through is quick
 * enough. Formerly.lock protects it.
 */
#include "formerly.h"

#include "claims.h"

#include <string.h>

typedef struct Name {
    char *key;      /* of the file, and what was shown */
    char *identity; /* which snapshot was */
} Name;

struct Formerly {
    unsigned most;
    GMutex lock;
    GQueue names; /* of Name, the oldest first; lock */
};

static void name_free(gpointer data)
{
    Name *name = data;

    g_free(name->key);
    g_free(name->identity);
    g_free(name);
}

static char *key_of(const QcFileStat *file, const char *shown)
{
    g_autofree char *key = claims_lasting_key(file);

    return g_strdup_printf("%s:%s", key, shown);
}

Formerly *formerly_new(unsigned most)
{
    Formerly *formerly = g_new0(Formerly, 1);

    formerly->most = most;
    g_mutex_init(&formerly->lock);
    return formerly;
}

void formerly_free(Formerly *formerly)
{
    if (!formerly)
        return;
    g_queue_clear_full(&formerly->names, name_free);
    g_mutex_clear(&formerly->lock);
    g_free(formerly);
}

static int has_other_key(gconstpointer name, gconstpointer key)
{
    return strcmp(((const Name *)name)->key, key);
}

/* Lock held. */
static void drop(Formerly *formerly, GList *link)
{
    name_free(link->data);
    g_queue_delete_link(&formerly->names, link);
}

/* Lock held. */
static void forget(Formerly *formerly, const char *key)
{
    GList *link = g_queue_find_custom(&formerly->names, key, has_other_key);

    if (link)
        drop(formerly, link);
}

void formerly_note(Formerly *formerly, const QcFileStat *file, const char *shown,
                   const char *identity)
{
    Name *name = g_new0(Name, 1);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&formerly->lock);

    *name = (Name){.key = key_of(file, shown), .identity = g_strdup(identity)};
    forget(formerly, name->key);
    if (formerly->names.length == formerly->most)
        drop(formerly, formerly->names.head);
    g_queue_push_tail(&formerly->names, name);
}

void formerly_forget(Formerly *formerly, const QcFileStat *file, const char *shown)
{
    g_autofree char *key = key_of(file, shown);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&formerly->lock);

    forget(formerly, key);
}

char *formerly_find(Formerly *formerly, const QcFileStat *file, const char *shown)
{
    g_autofree char *key = key_of(file, shown);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&formerly->lock);
    const GList *link = g_queue_find_custom(&formerly->names, key, has_other_key);

    return link ? g_strdup(((const Name *)link->data)->identity) : NULL;
}
