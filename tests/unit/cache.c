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

/* Also where many keys share a bucket: a small cache has few. */
Test(cache, keys_that_share_a_bucket_are_told_apart)
{
    enum { SMALL_BUDGET = 1 << 14 };

    tear_down();
    cache = qc_cache_new(SMALL_BUDGET);
    uint64_t another = qc_cache_new_owner(cache);
    for (unsigned i = 0; i < ENTRIES; i++) {
        QcCachedKey key = key_of(i), other = key;

        add(&key, 1, 7);
        cr_assert_eq(7, value_of(&key));
        other.owner = another;
        cr_assert_eq(-1, value_of(&other), "owner, %u", i);
        other = key;
        for (other.kind = QC_CACHED_CLUSTER; other.kind <= QC_CACHED_AREA; other.kind++)
            cr_assert_eq(-1, value_of(&other), "kind %u, %u", other.kind, i);
    }
}

/* An image whose offsets collide would have to know the owner. */
Test(cache, owners_are_not_the_same_in_each_cache)
{
    unsigned same = 0;

    for (unsigned i = 0; i < 4; i++) {
        QcCache *other = qc_cache_new(BUDGET);

        same += qc_cache_new_owner(other) == owner;
        qc_cache_unref(other);
    }
    cr_expect_lt(same, 4);
}

Test(cache, the_first_of_two_stays)
{
    QcCachedKey key = key_of(1);

    add(&key, ENTRY_BYTES, 7);
    add(&key, ENTRY_BYTES, 8);
    cr_expect_eq(7, value_of(&key));
}

/* Those used last stay, as many as there is room for. */
Test(cache, those_not_used_of_late_are_dropped)
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

/* Also when all others were used meanwhile: there is always one to be dropped. */
Test(cache, a_new_entry_finds_room_among_used_ones)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        QcCachedKey key = key_of(i);

        add(&key, ENTRY_BYTES, 7);
        for (unsigned k = 0; k <= i; k++) {
            QcCachedKey used = key_of(k);

            value_of(&used);
        }
        cr_assert_eq(7, value_of(&key), "%u", i);
    }
}

/* How many entries of ENTRY_BYTES there is room for. */
static unsigned room_for(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ENTRIES; i++) {
        QcCachedKey key = key_of(i);

        add(&key, ENTRY_BYTES, 7);
    }
    for (unsigned i = 0; i < ENTRIES; i++) {
        QcCachedKey key = key_of(i);

        n += value_of(&key) >= 0;
    }
    tear_down();
    set_up();
    return n;
}

/* Fill the cache, use the oldest entries, and add one more. The first that is missing then. */
static unsigned dropped_when_used(unsigned used)
{
    unsigned room = room_for();

    for (unsigned i = 0; i < room; i++) {
        QcCachedKey key = key_of(i);

        add(&key, ENTRY_BYTES, 7);
    }
    for (unsigned i = 0; i < MIN(used, room); i++) {
        QcCachedKey key = key_of(i);

        cr_assert_eq(7, value_of(&key));
    }
    QcCachedKey one_more = key_of(room);
    add(&one_more, ENTRY_BYTES, 7);
    for (unsigned i = 0; i < room; i++) {
        QcCachedKey key = key_of(i);

        if (value_of(&key) < 0)
            return i;
    }
    return room;
}

/* Several that were used are spared for one that was not; but how many bounds what an entry costs
 * that is added. */
Test(cache, those_that_were_used_are_spared)
{
    enum { SOME = 30, TOO_MANY = 100 };

    cr_expect_eq(0, dropped_when_used(0));
    tear_down();
    set_up();
    cr_expect_eq(SOME, dropped_when_used(SOME));
    tear_down();
    set_up();
    unsigned dropped = dropped_when_used(ENTRIES);
    cr_expect_gt(dropped, 0, "not all were looked at, or the oldest would be the first again");
    cr_expect_lt(dropped, TOO_MANY);
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

/* How many of three entries of a byte there is room for. */
static unsigned kept_of_three(size_t budget)
{
    unsigned found = 0;

    tear_down();
    cache = qc_cache_new(budget);
    for (unsigned i = 0; i < 3; i++)
        add(&(QcCachedKey){1, i, QC_CACHED_TABLE}, 1, 7);
    for (unsigned i = 0; i < 3; i++)
        found += value_of(&(QcCachedKey){1, i, QC_CACHED_TABLE}) == 7;
    return found;
}

/* All of the memory is counted, and all of the budget is used. */
Test(cache, the_budget_is_kept_to_the_byte)
{
    size_t needed[4] = {0}; /* for so many entries */

    for (unsigned n = 1; n <= 3; n++) {
        for (needed[n] = needed[n - 1]; kept_of_three(needed[n]) < n; needed[n]++)
            cr_assert_lt(needed[n], 4096);
        cr_assert_eq(n, kept_of_three(needed[n]), "no more fit");
    }
    size_t each = needed[3] - needed[2];
    cr_expect_eq(each, needed[2] - needed[1]);
    cr_expect_gt(each, sizeof(QcCached) + 1);
    cr_expect_geq(needed[1], each + 2 * sizeof(QcCached *), "the buckets are a part of it");
}

Test(cache, a_budget_that_nobody_has_is_no_reason_to_fail)
{
    tear_down();
    cache = qc_cache_new((size_t)1 << 60);
    cr_assert_not_null(cache);
    add(&(QcCachedKey){1, 0, QC_CACHED_TABLE}, ENTRY_BYTES, 7);
    cr_expect_eq(7, value_of(&(QcCachedKey){1, 0, QC_CACHED_TABLE}));
}

/* More than are kept, put back and taken again. */
Test(cache, decoders_are_used_again_and_each_has_one_user)
{
    enum { MANY = 40 };
    QcInflater *decoders[MANY], *first = qc_cache_get_inflater(cache);

    qc_cache_put_inflater(cache, first);
    for (unsigned round = 0; round < 2; round++) {
        bool used_again = false;

        for (unsigned i = 0; i < MANY; i++) {
            decoders[i] = qc_cache_get_inflater(cache);
            cr_assert_not_null(decoders[i]);
            used_again = used_again || decoders[i] == first;
            for (unsigned j = 0; j < i; j++)
                cr_assert_neq(decoders[i], decoders[j]);
        }
        cr_expect(used_again);
        for (unsigned i = MANY; i-- > 0;)
            qc_cache_put_inflater(cache, decoders[i]);
        first = decoders[MANY - 1];
    }
}

/* ---- from several threads ------------------------------------------------------------------ */

enum { THREADS = 4, ROUNDS = 60000, BURST = 4 };

static void *held[THREADS][BURST]; /* the decoders that each has; atomic */
static gint n_errors;

/* Add and find entries, many more than there is room for. */
static void *use_entries(void *data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data));

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned number = (unsigned)g_rand_int_range(rand, 0, 500);
        QcCachedKey key = key_of(number);
        int value = value_of(&key);

        if (value < 0)
            add(&key, ENTRY_BYTES, (uint8_t)(number % 251));
        else if (value != (int)(number % 251))
            g_atomic_int_inc(&n_errors);
    }
    return NULL;
}

static bool is_held_by_others(unsigned me, const void *decoder)
{
    for (unsigned k = 0; k < THREADS; k++)
        for (unsigned i = 0; i < BURST; i++)
            if (k != me && g_atomic_pointer_get(&held[k][i]) == decoder)
                return true;
    return false;
}

/* Take some decoders at once, and put them back. */
static void *use_decoders(void *data)
{
    unsigned me = GPOINTER_TO_UINT(data);

    for (unsigned n = 0; n < ROUNDS; n++) {
        QcInflater *decoders[BURST];

        for (unsigned i = 0; i < BURST; i++)
            decoders[i] = qc_cache_get_inflater(cache);
        for (unsigned i = 0; i < BURST; i++)
            g_atomic_pointer_set(&held[me][i], decoders[i]);
        for (unsigned i = 0; i < BURST; i++)
            if (is_held_by_others(me, decoders[i]))
                g_atomic_int_inc(&n_errors);
        for (unsigned i = 0; i < BURST; i++)
            g_atomic_pointer_set(&held[me][i], NULL);
        for (unsigned i = 0; i < BURST; i++)
            qc_cache_put_inflater(cache, decoders[i]);
    }
    return NULL;
}

static void *use_owners(void *data)
{
    (void)data;
    for (unsigned i = 0; i < ROUNDS; i++)
        qc_cache_new_owner(cache);
    return NULL;
}

static void run_threads(GThreadFunc func)
{
    GThread *threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("user", func, GUINT_TO_POINTER(i));
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    cr_expect_eq(n_errors, 0);
}

Test(cache, entries_are_added_while_others_are_found, .timeout = 60)
{
    run_threads(use_entries);
}

Test(cache, a_decoder_has_one_user_among_threads, .timeout = 60)
{
    run_threads(use_decoders);
}

Test(cache, each_owner_is_another_among_threads, .timeout = 60)
{
    run_threads(use_owners);
    cr_expect_eq(qc_cache_new_owner(cache), owner + THREADS * ROUNDS + 1);
}
