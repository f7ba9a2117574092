/*
 * area.h - what a stretch of a view is, looked up through all layers once, for the cache.
 *
 * A look-up asks every layer from the top down until one has something to say, so it costs the
 * more the longer the chain is. An area holds the answers for a stretch of guest bytes. It is
 * made layer by layer: each is asked once for the gaps that those above it left.
 */
#ifndef QCOW_AREA_H
#define QCOW_AREA_H

#include "cache.h"

enum {
    QC_AREA_GRAINS = 512,
};

/*
 * An area in the making. Grains: equal pieces of the area, each answered by exactly one layer in
 * one way. For one thread.
 */
typedef struct QcAreaBuilder {
    uint64_t start;
    unsigned grain_bits;  /* log2 of a grain's bytes */
    unsigned n;           /* of the grains; the last may be shorter */
    unsigned first, last; /* no grain before first is a gap, and none from last on */
    uint64_t length;
    QcExtent *grains; /* holes are gaps: no layer has said anything yet */
} QcAreaBuilder;

/* -ENOMEM. qc_area_clear() has to follow. */
int qc_area_begin(QcAreaBuilder *builder, uint64_t start, uint64_t length, unsigned grain_bits);
/* Whether gaps are left, and the range of guest bytes from the first to the end of the last. */
bool qc_area_next_gap(QcAreaBuilder *builder, uint64_t *ret_from, uint64_t *ret_end);
/* The layer in turn has this at an offset. It fills the gaps that are there. */
void qc_area_offer(QcAreaBuilder *builder, uint64_t offset, const QcExtent *extent);
/*
 * Gaps that are left are holes. NULL: no memory. The extents in the area borrow their
 * images: the key's owner has to keep these while it uses the area.
 */
QcCached *qc_area_end(QcAreaBuilder *builder, const QcCachedKey *key);
void qc_area_clear(QcAreaBuilder *builder);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QcAreaBuilder, qc_area_clear)

/* The extent at an offset in an area, at most length bytes long. */
void qc_area_find(QcCached *area, uint64_t offset, uint64_t length, QcExtent *ret);

#endif
