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
    AHEAD = 24,           /* numbers that will be handed on soon */
    MAX_TAG = UINT16_MAX, /* others are handed on at once */
};

struct QcSpread {
    const QcRefs *refs;
    QcSpreadFunc func;
    void *data;
    unsigned n_bins, room; /* of each */
    unsigned bin_bits;
    unsigned *used;
    uint64_t *held; /* bin by bin */
};

int qc_spread_new(const QcRefs *refs, uint64_t n_clusters, QcSpreadFunc func, void *data,
                  QcSpread **ret)
{
    QcSpread *spread = g_try_new0(QcSpread, 1);
    if (!spread)
        return -ENOMEM;
    spread->refs = refs;
    spread->func = func;
    spread->data = data;
    spread->bin_bits = BIN_BITS;
    while (n_clusters >> spread->bin_bits >= MAX_BINS)
        spread->bin_bits++;
    spread->n_bins = (unsigned)(n_clusters >> spread->bin_bits) + 1;
    spread->room = MAX(MIN_HELD, (unsigned)MIN(n_clusters, MAX_HELD) / spread->n_bins);
    spread->used = g_try_new0(unsigned, spread->n_bins);
    spread->held = g_try_new(uint64_t, (size_t)spread->n_bins * spread->room);
    if (!spread->used || !spread->held) {
        qc_spread_free(spread);
        return -ENOMEM;
    }
    *ret = spread;
    return 0;
}

void qc_spread_free(QcSpread *spread)
{
    if (!spread)
        return;
    g_free(spread->held);
    g_free(spread->used);
    g_free(spread);
}

static uint64_t cluster_of(uint64_t held)
{
    return held & ((UINT64_C(1) << CLUSTER_BITS) - 1);
}

static int empty(QcSpread *spread, unsigned bin)
{
    const uint64_t *held = spread->held + (size_t)bin * spread->room;
    unsigned n = spread->used[bin];
    int err = 0;
    spread->used[bin] = 0;
    for (unsigned i = 0; i < n && !err; i++) {
        if (i + AHEAD < n)
            qc_refs_prefetch(spread->refs, cluster_of(held[i + AHEAD]));
        err =
            spread->func(spread->data, cluster_of(held[i]), 1, (uint32_t)(held[i] >> CLUSTER_BITS));
    }
    return err;
}

static int hold_back(QcSpread *spread, uint64_t cluster, uint32_t tag)
{
    uint64_t bin = cluster >> spread->bin_bits;
    if (bin >= spread->n_bins || tag > MAX_TAG)
        return spread->func(spread->data, cluster, 1, tag);
    int err = spread->used[bin] == spread->room ? empty(spread, (unsigned)bin) : 0;
    spread->held[bin * spread->room + spread->used[bin]++] = cluster | (uint64_t)tag
                                                                           << CLUSTER_BITS;
    return err;
}

int qc_spread_add(QcSpread *spread, uint64_t first, uint64_t count, uint32_t tag)
{
    int err = 0;
    if (count >= QC_LONG_ROW)
        return spread->func(spread->data, first, count, tag);
    for (uint64_t i = 0; i < count && !err; i++)
        err = hold_back(spread, first + i, tag);
    return err;
}

int qc_spread_flush(QcSpread *spread)
{
    int err = 0;
    for (unsigned i = 0; i < spread->n_bins && !err; i++)
        err = empty(spread, i);
    return err;
}
