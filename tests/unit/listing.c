/* What open directories list is there once, as long as somebody has it open. */
#include "listing.h"

#include <criterion/criterion.h>

/* Names of one letter each. */
static Listing *list(Listings *listings, const char *letters, uint64_t first_ino)
{
    Listing *listing = listing_new();

    for (unsigned i = 0; letters[i]; i++) {
        char name[] = {letters[i], '\0'};

        listing_add(listing, &(ListingEntry){first_ino + i, name, name[0] == 'd'});
    }
    return listings_share(listings, listing);
}

Test(listing, says_what_was_added)
{
    Listings *listings = listings_new();
    g_autoptr(Listing) listing = list(listings, "fd", 7);
    ListingEntry entry;

    cr_assert(listing_get(listing, 0, &entry));
    cr_assert(entry.ino == 7 && !entry.is_dir);
    cr_assert_str_eq(entry.name, "f");
    cr_assert(listing_get(listing, 1, &entry));
    cr_assert(entry.ino == 8 && entry.is_dir);
    cr_assert_str_eq(entry.name, "d");
    cr_assert_not(listing_get(listing, 2, &entry));
    cr_assert_not(listing_get(listing, UINT64_MAX, &entry));
    g_clear_pointer(&listing, listing_unref);
    listings_free(listings);
}

/* A directory of the store in whose place there is an image now keeps its name. */
Test(listing, what_became_something_else_is_not_the_same)
{
    Listings *listings = listings_new();
    Listing *made[2];
    ListingEntry entry;

    for (unsigned i = 0; i < 2; i++) {
        Listing *listing = listing_new();

        listing_add(listing, &(ListingEntry){7, "a", i == 1});
        made[i] = listings_share(listings, listing);
    }
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(listing_get(made[i], 0, &entry));
        cr_expect_eq(entry.is_dir, i == 1);
    }
    for (unsigned i = 0; i < 2; i++)
        listing_unref(made[i]);
    listings_free(listings);
}

Test(listing, the_same_is_there_once)
{
    Listings *listings = listings_new();
    Listing *first = list(listings, "abc", 1), *again = list(listings, "abc", 1);
    Listing *other_name = list(listings, "abx", 1), *other_ino = list(listings, "abc", 2);
    Listing *less = list(listings, "ab", 1), *empty = list(listings, "", 1);

    cr_assert_eq(first, again);
    cr_assert_neq(first, other_name);
    cr_assert_neq(first, other_ino);
    cr_assert_neq(first, less);
    cr_assert_neq(first, empty);

    /* The first who closes it leaves it to the others. */
    listing_unref(first);
    ListingEntry entry;
    cr_assert(listing_get(again, 2, &entry));
    cr_assert_str_eq(entry.name, "c");
    Listing *third = list(listings, "abc", 1);
    cr_assert_eq(third, again);

    Listing *all[] = {again, third, other_name, other_ino, less, empty};
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        listing_unref(all[i]);
    Listing *anew = list(listings, "abc", 1); /* the set kept nothing that is gone */
    cr_assert(listing_get(anew, 2, &entry));
    listing_unref(anew);
    listings_free(listings);
}
