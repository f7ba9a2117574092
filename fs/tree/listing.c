/*
 * listing.c - see listing.h.
 *
 * An image can have 65,536 snapshots with names of 255 bytes, and any user can open their directory
 * a thousand times. So all open listings that say the same are one, whatever has been opened or
 * changed in between. The names are one piece of memory, which goes back to the system when it is
 * freed.
 *
 * Listings.lock protects the set and the references of what is in it.
 */
#include "listing.h"

#include <string.h>

typedef struct Entry {
    uint64_t ino;
    size_t name_at; /* in names */
    bool is_dir;
} Entry;

struct Listing {
    Listings *shared_in; /* NULL: not yet, and there is one reference */
    unsigned refs;       /* lock */
    guint hash;
    GArray *entries;
    GString *names; /* each with its NUL */
};

struct Listings {
    GMutex lock;
    GHashTable *open; /* a set of Listing, by what they say; lock */
};

static guint hash_of(gconstpointer listing)
{
    return ((const Listing *)listing)->hash;
}

static gboolean is_equal(gconstpointer a, gconstpointer b)
{
    const Listing *one = a, *other = b;

    if (one->entries->len != other->entries->len || one->names->len != other->names->len ||
        memcmp(one->names->str, other->names->str, one->names->len) != 0)
        return FALSE;
    for (guint i = 0; i < one->entries->len; i++) {
        const Entry *x = &g_array_index(one->entries, Entry, i);
        const Entry *y = &g_array_index(other->entries, Entry, i);

        if (x->ino != y->ino || x->is_dir != y->is_dir)
            return FALSE;
    }
    return TRUE;
}

Listings *listings_new(void)
{
    Listings *listings = g_new0(Listings, 1);

    g_mutex_init(&listings->lock);
    listings->open = g_hash_table_new(hash_of, is_equal);
    return listings;
}

void listings_free(Listings *listings)
{
    if (!listings)
        return;
    g_hash_table_unref(listings->open);
    g_mutex_clear(&listings->lock);
    g_free(listings);
}

Listing *listing_new(void)
{
    Listing *listing = g_new0(Listing, 1);

    listing->refs = 1;
    listing->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    listing->names = g_string_new(NULL);
    return listing;
}

void listing_add(Listing *listing, const ListingEntry *entry)
{
    Entry added = {.ino = entry->ino, .name_at = listing->names->len, .is_dir = entry->is_dir};

    g_array_append_val(listing->entries, added);
    g_string_append_len(listing->names, entry->name, (gssize)strlen(entry->name) + 1);
    listing->hash = listing->hash * 31 + (guint)(entry->ino ^ entry->ino >> 32);
}

Listing *listings_share(Listings *listings, Listing *listing)
{
    g_mutex_lock(&listings->lock);
    Listing *open = g_hash_table_lookup(listings->open, listing);

    if (open) {
        open->refs++;
    } else {
        listing->shared_in = listings;
        g_hash_table_add(listings->open, listing);
    }
    g_mutex_unlock(&listings->lock);
    if (!open)
        return listing;
    listing_unref(listing);
    return open;
}

Listing *listing_ref(Listing *listing)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&listing->shared_in->lock);

    listing->refs++;
    return listing;
}

/* Whether that was the last reference; then the listing is in no set any more. */
static bool drop(Listing *listing)
{
    Listings *listings = listing->shared_in;

    if (!listings)
        return true;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&listings->lock);

    if (--listing->refs > 0)
        return false;
    g_hash_table_remove(listings->open, listing);
    return true;
}

void listing_unref(Listing *listing)
{
    if (!listing || !drop(listing))
        return;
    g_array_unref(listing->entries);
    g_string_free(listing->names, TRUE);
    g_free(listing);
}

bool listing_get(const Listing *listing, uint64_t place, ListingEntry *ret)
{
    if (place >= listing->entries->len)
        return false;

    const Entry *entry = &g_array_index(listing->entries, Entry, place);
    *ret = (ListingEntry){
        .ino = entry->ino, .name = listing->names->str + entry->name_at, .is_dir = entry->is_dir};
    return true;
}
