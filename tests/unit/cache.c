/* The cache: what is found, what is dropped, and how much there is. */
#include "cache.h"

#include <criterion/criterion.h>
#include <string.h>

enum {
    BUDGET = 1 << 20,
    ENTRY_BYTES = 4096,
    ENTRIES = 1000, /* several budgets of them */
};

static QcCache *cache;
static uint64_t owner;

static void set_up(void)
{
    cache = qc_cache_new(BUDGET);
    owner = qc_cache_new_owner(cache);
}

static void tear_down(void)
{
    qc_cache_unref(cache);
}

TestSuite(cache, .init = set_up, .fini = tear_down);

static QcCachedKey key_of(uint64_t number)
{
    return (QcCachedKey){owner, number * ENTRY_BYTES, QC_CACHED_TABLE};
}

static void add(const QcCachedKey *key, size_t size, uint8_t value)
{
    g_autoptr(QcCached) entry = qc_cached_new(key, size);

    memset(entry->data, value, size);
    qc_cache_add(cache, entry);
}

/* The value of the entry with this key; -1: there is none. */
static int value_of(const QcCachedKey *key)
{
    g_autoptr(QcCached) entry = qc_cache_find(cache, key);

    return entry ? entry->data[entry->size - 1] : -1;
}

Test(cache, entries_are_found_by_all_of_their_key)
{
    QcCachedKey key = key_of(1), other = key;

    add(&key, ENTRY_BYTES, 7);
    cr_expect_eq(7, value_of(&key));
    other.offset++;
    cr_expect_eq(-1, value_of(&other));
    other = key;
    other.kind = QC_CACHED_BLANK;
    cr_expect_eq(-1, value_of(&other));
    other = key;
    other.owner = qc_cache_new_owner(cache);
    cr_expect_eq(-1, value_of(&other));
}

Test(cache, the_first_of_two_stays)
{
    QcCachedKey key = key_of(1);

    add(&key, ENTRY_BYTES, 7);
    add(&key, ENTRY_BYTES, 8);
    cr_expect_eq(7, value_of(&key));
}

/* Those used last stay, as many as there is room for. */
Test(cache, the_least_recently_used_are_dropped)
{
    QcCachedKey always = key_of(0);
    unsigned found = 0;
    bool missing = false;

    add(&always, ENTRY_BYTES, 200);
    for (unsigned i = 1; i < ENTRIES; i++) {
        QcCachedKey key = key_of(i);

        add(&key, ENTRY_BYTES, (uint8_t)(i % 100));
        cr_expect_eq(200, value_of(&always));
    }
    for (unsigned i = ENTRIES - 1; i > 0; i--) {
        QcCachedKey key = key_of(i);
        int value = value_of(&key);

        found += value >= 0;
        missing = missing || value < 0;
        cr_expect_eq(value, missing ? -1 : (int)(i % 100), "%u", i);
    }
    cr_expect_leq((found + 1) * ENTRY_BYTES, BUDGET);
    cr_expect_geq((found + 1) * ENTRY_BYTES, BUDGET * 9 / 10);
}

/* Entries of all sizes come and go in many buckets. */
Test(cache, what_is_found_is_what_was_added)
{
    GRand *rand = g_rand_new_with_seed(1);
    unsigned found = 0;

    for (unsigned i = 0; i < 100000; i++) {
        unsigned number = (unsigned)g_rand_int_range(rand, 0, 5000);
        QcCachedKey key = key_of(number);
        int value = value_of(&key);

        cr_assert(value < 0 || value == (int)(number % 251));
        found += value >= 0;
        if (value < 0)
            add(&key, 1 + number % 1500, (uint8_t)(number % 251));
    }
    cr_expect_gt(found, 10000);
    g_rand_free(rand);
}

Test(cache, an_entry_that_was_dropped_can_be_read_to_the_end)
{
    QcCachedKey key = key_of(0);

    add(&key, ENTRY_BYTES, 7);
    g_autoptr(QcCached) entry = qc_cache_find(cache, &key);
    for (unsigned i = 1; i < ENTRIES; i++) {
        QcCachedKey other = key_of(i);

        add(&other, ENTRY_BYTES, 8);
    }
    cr_expect_eq(-1, value_of(&key));
    cr_expect_eq(7, entry->data[ENTRY_BYTES - 1]);
}

Test(cache, what_is_larger_than_the_budget_is_not_kept)
{
    static const size_t budgets[] = {0, 1, 600, BUDGET};

    for (size_t i = 0; i < G_N_ELEMENTS(budgets); i++) {
        QcCachedKey key = key_of(0);

        tear_down();
        cache = qc_cache_new(budgets[i]);
        add(&key, BUDGET, 7);
        cr_expect_eq(-1, value_of(&key));
    }
}
