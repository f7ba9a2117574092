/*
 * spread.c - see spread.h. One bin for each range of clusters; one that is full is emptied. All
 * bins together have a fixed size, so the memory that it takes does not grow with the image.
 */
#include "spread.h"
#include <errno.h>
#include <glib.h>

enum {
    BIN_BITS = 18,        /* of a range: half a MiB of 16-bit counts */
    MAX_BINS = 512,       /* so that the places where they are filled stay in the cache too */
    MAX_HELD = 1 << 20,   /* numbers */
    MIN_HELD = 1 << 10,   /* in each bin */
    CLUSTER_BITS = 48,    /* of a number that is held back; its tag has the rest */
    EXPECTED = 24,        /* numbers that will be handed on soon */
    MAX_TAG = UINT16_MAX, /* others are handed on at once */
};

struct QcSpread {
    const QcRefs *refs;
    QcSpreadFunc func;
    void *data;
    unsigned n_bins, room; /* of each */
    unsigned bin_bits;
    uint64_t last; /* number that was added; those right behind it need not be held back */
    unsigned *used;
    uint64_t *held; /* bin by bin */
};

int qc_spread_new(const QcRefs *refs, uint64_t n_clusters, QcSpreadFunc func, void *data,
                  QcSpread **ret)
{
    QcSpread *s = g_try_new0(QcSpread, 1);
    if (!s)
        return -ENOMEM;
    s->refs = refs;
    s->func = func;
    s->data = data;
    s->bin_bits = BIN_BITS;
    while (n_clusters >> s->bin_bits >= MAX_BINS)
        s->bin_bits++;
    s->n_bins = (unsigned)(n_clusters >> s->bin_bits) + 1;
    s->room = MAX(MIN_HELD, (unsigned)MIN(n_clusters, MAX_HELD) / s->n_bins);
    s->used = g_try_new0(unsigned, s->n_bins);
    s->held = g_try_new(uint64_t, (size_t)s->n_bins * s->room);
    if (!s->used || !s->held) {
        qc_spread_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void qc_spread_free(QcSpread *s)
{
    if (!s)
        return;
    g_free(s->held);
    g_free(s->used);
    g_free(s);
}

static uint64_t cluster_of(uint64_t held)
{
    return held & ((UINT64_C(1) << CLUSTER_BITS) - 1);
}

static int empty(QcSpread *s, unsigned bin)
{
    const uint64_t *held = s->held + (size_t)bin * s->room;
    unsigned n = s->used[bin];
    int err = 0;
    s->used[bin] = 0;
    for (unsigned i = 0; i < n && !err; i++) {
        if (i + EXPECTED < n)
            qc_refs_expect(s->refs, cluster_of(held[i + EXPECTED]));
        err = s->func(s->data, cluster_of(held[i]), (uint32_t)(held[i] >> CLUSTER_BITS));
    }
    return err;
}

int qc_spread_add(QcSpread *s, uint64_t cluster, uint32_t tag)
{
    uint64_t bin = cluster >> s->bin_bits;
    bool in_order = cluster == s->last + 1;
    s->last = cluster;
    if (in_order || bin >= s->n_bins || tag > MAX_TAG)
        return s->func(s->data, cluster, tag);
    int err = s->used[bin] == s->room ? empty(s, (unsigned)bin) : 0;
    s->held[bin * s->room + s->used[bin]++] = cluster | (uint64_t)tag << CLUSTER_BITS;
    return err;
}

int qc_spread_flush(QcSpread *s)
{
    int err = 0;
    for (unsigned i = 0; i < s->n_bins && !err; i++)
        err = empty(s, i);
    return err;
}
