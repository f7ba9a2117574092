/* Which COPIED flags are set right, what of that is told, and what is no state to go on from. */
#include "flags.h"
#include "checked.h"
#include <criterion/criterion.h>

enum {
    CLUSTER = 65536,
    UNUSED = 0x400, /* clusters, by their counts */
    SINGLE,
    OTHER,
    SHARED,
    ROW = 0x500, /* clusters with the counts of a row */
};

static const char counts_of_row[] = "11111111111111111111111111113222222211212121111000111111110000"
                                    "00000021111111211111111111111311111110";

/* A model of an image in which these clusters have these counts. */
static QcRefs *make_refs(Opened *o)
{
    static const Kind kind = {"v3-64k", 3, 16, 16, false};
    MemFile *file = script_image(&kind, CLUSTER);
    uint64_t block = first_refcount_block(file);
    QcRefs *refs;
    file->data->data[block + SINGLE * 2 + 1] = 1;
    file->data->data[block + OTHER * 2 + 1] = 1;
    file->data->data[block + SHARED * 2 + 1] = 2;
    for (unsigned i = 0; counts_of_row[i]; i++)
        file->data->data[block + (ROW + i) * 2 + 1] = (uint8_t)(counts_of_row[i] - '0');
    *o = opened_new(mem_file(file), NULL);
    cr_assert_eq(0, qc_refs_load(o->image, &(QcMeter){0}, &refs, NULL));
    qc_file_unref(mem_file(file));
    return refs;
}

static uint64_t entry_of(uint64_t cluster, uint64_t flags)
{
    return cluster * CLUSTER | flags;
}

/* Entries, and what has to become of them. */
static const struct {
    uint64_t was[4], is[4];
    uint64_t wrong, first;
    bool broken; /* what is set right then does not matter */
} cases[] = {
#define E(cluster) ((uint64_t)(cluster)*CLUSTER)
    {{0}, {0}, 0, 0, false},
    {{E(SINGLE) | QC_COPIED, E(SHARED)}, {E(SINGLE) | QC_COPIED, E(SHARED)}, 0, 0, false},
    {{0, E(SINGLE), E(SHARED), E(OTHER)},
     {0, E(SINGLE) | QC_COPIED, E(SHARED), E(OTHER) | QC_COPIED},
     2,
     1,
     false},
    {{E(SINGLE) | QC_COPIED, E(SHARED) | QC_COPIED},
     {E(SINGLE) | QC_COPIED, E(SHARED)},
     1,
     1,
     false},
    {{E(SINGLE) | QC_COPIED, E(UNUSED)}, {0}, 0, 0, true},
    {{E(UNUSED) | QC_COPIED}, {0}, 0, 0, true},
#undef E
};

static void expect_flags(const QcFlags *flags, const uint64_t *now, size_t i)
{
    cr_expect_eq(flags->broken, cases[i].broken, "case %zu", i);
    if (cases[i].broken)
        return;
    cr_expect_eq(flags->wrong, cases[i].wrong, "case %zu", i);
    cr_expect(flags->wrong == 0 || flags->first == cases[i].first, "case %zu", i);
    for (unsigned k = 0; k < 4; k++)
        cr_expect_eq(now[k], cases[i].is[k], "case %zu, entry %u", i, k);
}

Test(flags, of_an_l1_table)
{
    Opened o;
    QcRefs *refs = make_refs(&o);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t l1[4];
        memcpy(l1, cases[i].was, sizeof(l1));
        QcFlags flags = qc_flags_set_l1(&o.image->header.layout, refs, l1, 4);
        expect_flags(&flags, l1, i);
    }
    qc_refs_free(refs);
    opened_clear(&o);
}

/* Set the flags of a table that begins with these entries; they become what they are then. */
static QcFlags set_l2(const Opened *o, QcRefs *refs, uint64_t *entries)
{
    g_autofree be64 *table = g_malloc0(CLUSTER);
    QcFlags flags;
    for (unsigned k = 0; k < 4; k++)
        table[k] = be64_make(entries[k]);
    cr_assert_eq(0, qc_flags_set_l2(&o->image->header.layout, refs, (uint8_t *)table, &flags));
    for (unsigned k = 0; k < 4; k++)
        entries[k] = be64_get(table[k]);
    return flags;
}

Test(flags, of_an_l2_table)
{
    Opened o;
    QcRefs *refs = make_refs(&o);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t entries[4];
        memcpy(entries, cases[i].was, sizeof(entries));
        QcFlags flags = set_l2(&o, refs, entries);
        expect_flags(&flags, entries, i);
    }
    qc_refs_free(refs);
    opened_clear(&o);
}

/* A guest never writes over one of these. */
Test(flags, a_compressed_cluster_has_none)
{
    Opened o;
    QcRefs *refs = make_refs(&o);
    uint64_t compressed = entry_of(SINGLE, QC_COMPRESSED);
    uint64_t entries[4] = {compressed, compressed | QC_COPIED};
    QcFlags flags = set_l2(&o, refs, entries);
    cr_expect_eq(entries[0], compressed);
    cr_expect_eq(entries[1], compressed);
    cr_expect_eq(flags.wrong, 1);
    cr_expect_not(flags.broken);
    qc_refs_free(refs);
    opened_clear(&o);
}

Test(flags, an_entry_that_is_not_valid_is_broken)
{
    Opened o;
    QcRefs *refs = make_refs(&o);
    uint64_t entries[4] = {entry_of(SINGLE, QC_COPIED), entry_of(OTHER, QC_COPIED | 0x200)};
    cr_expect(set_l2(&o, refs, entries).broken);
    qc_refs_free(refs);
    opened_clear(&o);
}

/* Whatever the uses of the clusters of a row, and however long it is: as if it were no row. */
Test(flags, of_a_row_are_those_of_its_entries)
{
    enum { LONGEST = 20, TRIES = 2000, STARTS = sizeof(counts_of_row) - LONGEST };
    Opened o;
    QcRefs *refs = make_refs(&o);
    GRand *rand = g_rand_new_with_seed(1);
    for (unsigned n = 0; n < TRIES; n++) {
        g_autofree be64 *table = g_malloc0(CLUSTER);
        uint64_t length = (uint64_t)g_rand_int_range(rand, 1, LONGEST + 1);
        uint64_t first = ROW + (uint64_t)g_rand_int_range(rand, 0, STARTS);
        uint64_t had = g_rand_boolean(rand) ? QC_COPIED : 0;
        uint64_t wrong = 0, first_wrong = 0;
        bool unused = false;
        QcFlags flags;
        for (uint64_t i = 0; i < length; i++)
            table[i] = be64_make(entry_of(first + i, had));
        cr_assert_eq(0, qc_flags_set_l2(&o.image->header.layout, refs, (uint8_t *)table, &flags));
        for (uint64_t i = length; i-- > 0;) {
            uint64_t count = qc_refs_get(refs, first + i), has = count == 1 ? QC_COPIED : 0;
            unused |= count == 0;
            wrong += has != had;
            first_wrong = has != had ? i : first_wrong;
            cr_assert_eq(be64_get(table[i]), entry_of(first + i, has));
        }
        cr_assert_eq(be64_get(table[length]), 0, "nothing behind it");
        cr_assert_eq(flags.wrong, wrong);
        cr_assert_eq(flags.first, first_wrong);
        cr_assert_eq(flags.broken, unused);
    }
    g_rand_free(rand);
    qc_refs_free(refs);
    opened_clear(&o);
}

/* What lies behind a table in memory is left alone, also when a row would go on there. */
Test(flags, a_row_ends_with_its_table)
{
    enum { N = CLUSTER / sizeof(be64), INSIDE = 13, BEHIND = 10 };
    Opened o;
    QcRefs *refs = make_refs(&o);
    g_autofree be64 *table = g_malloc0(2 * CLUSTER);
    QcFlags flags;
    for (uint64_t i = 0; i < INSIDE + BEHIND; i++)
        table[N - INSIDE + i] = be64_make(entry_of(ROW + i, 0));
    cr_assert_eq(0, qc_flags_set_l2(&o.image->header.layout, refs, (uint8_t *)table, &flags));
    cr_expect_eq(flags.wrong, INSIDE);
    cr_expect_eq(flags.first, N - INSIDE);
    for (uint64_t i = 0; i < INSIDE + BEHIND; i++)
        cr_expect_eq(be64_get(table[N - INSIDE + i]), entry_of(ROW + i, i < INSIDE ? QC_COPIED : 0),
                     "%" G_GUINT64_FORMAT, i);
    qc_refs_free(refs);
    opened_clear(&o);
}

enum { BIG_BITS = 21, BIG_ENTRIES = (1 << BIG_BITS) / sizeof(be64) };

/* A model of an image with clusters of 2 MiB, in which every other one of many is shared. */
static QcRefs *make_big_refs(Opened *o)
{
    static const Kind kind = {"v3-2m", 3, BIG_BITS, 16, false};
    MemFile *file = script_image(&kind, 1 << BIG_BITS);
    uint64_t block = first_refcount_block(file);
    QcRefs *refs;
    for (uint64_t i = UNUSED; i < UNUSED + BIG_ENTRIES; i++)
        file->data->data[block + i * 2 + 1] = 1 + i % 2;
    *o = opened_new(mem_file(file), NULL);
    cr_assert_eq(0, qc_refs_load(o->image, &(QcMeter){0}, &refs, NULL));
    qc_file_unref(mem_file(file));
    return refs;
}

/* One row, in which the use changes with each cluster, costs no more than as many rows. The time
 * limit is there to end what would take minutes. */
Test(flags, a_long_row_of_which_every_other_cluster_is_shared, .timeout = 30)
{
    enum { TABLES = 20 };
    Opened o;
    QcRefs *refs = make_big_refs(&o);
    g_autofree be64 *table = g_new(be64, BIG_ENTRIES);
    for (unsigned n = 0; n < TABLES; n++) {
        QcFlags flags;
        for (uint64_t i = 0; i < BIG_ENTRIES; i++)
            table[i] = be64_make((UNUSED + i) << BIG_BITS);
        cr_assert_eq(0, qc_flags_set_l2(&o.image->header.layout, refs, (uint8_t *)table, &flags));
        cr_expect_not(flags.broken);
        cr_expect_eq(flags.wrong, BIG_ENTRIES / 2);
        cr_expect_eq(flags.first, 0);
        for (uint64_t i = 0; i < BIG_ENTRIES; i++)
            cr_assert_eq(be64_get(table[i]), (UNUSED + i) << BIG_BITS | (i % 2 ? 0 : QC_COPIED));
    }
    qc_refs_free(refs);
    opened_clear(&o);
}
