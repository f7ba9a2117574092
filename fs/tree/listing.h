/* listing.h - what a directory had in it when it was opened, or read from its start again. */
#ifndef SNAPTREE_LISTING_H
#define SNAPTREE_LISTING_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ListingEntry {
    uint64_t ino;
    const char *name;
    bool is_dir;
} ListingEntry;

/* Filled by one thread, immutable once it is shared; reference-counted. */
typedef struct Listing Listing;
typedef struct Listings Listings;

Listings *listings_new(void);
void listings_free(Listings *listings); /* accepts NULL */

Listing *listing_new(void);
void listing_add(Listing *listing, const ListingEntry *entry);
/* The listing, or one that is open already and says the same; the reference given is consumed. */
Listing *listings_share(Listings *listings, Listing *listing);
Listing *listing_ref(Listing *listing); /* of a shared one */
void listing_unref(Listing *listing);   /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Listing, listing_unref)

/* The entry at a place, its name borrowed; false behind the last. */
bool listing_get(const Listing *listing, uint64_t place, ListingEntry *ret);

#endif
