/*
 * area.h - what a stretch of a view is, looked up through all layers once, for the cache.
 *
 * A look-up asks every layer from the top down until one has something to say, so it costs the
 * more the longer the chain is. An area holds the answers for a stretch of guest bytes. It is
 * made layer by layer: each is asked once for all that those above it left open.
 */
#ifndef QCOW_AREA_H
#define QCOW_AREA_H

#include "cache.h"

enum {
    QC_AREA_GRAINS = 512,
};

/*
 * An area in the making: its grains, pieces of equal length such that no layer has two things to
 * say of one piece. For one thread.
 */
typedef struct QcAreaBuilder {
    uint64_t start, grain;
    unsigned grain_bits;
    unsigned n;           /* of the grains; the last may be shorter */
    unsigned first, last; /* those before and from here on are not open */
    uint64_t length;
    QcExtent *grains; /* holes are open */
} QcAreaBuilder;

/* -ENOMEM. qc_area_clear() has to follow. */
int qc_area_begin(QcAreaBuilder *builder, uint64_t start, uint64_t length, unsigned grain_bits);
/* Whether something is open, and the range in which that lies. */
bool qc_area_open(QcAreaBuilder *builder, uint64_t *ret_from, uint64_t *ret_end);
/* The layer in turn has this at an offset. It takes what is open there. */
void qc_area_offer(QcAreaBuilder *builder, uint64_t offset, const QcExtent *extent);
/*
 * What is open stays a hole. NULL: no memory. The extents in the area borrow their
 * images: the key's owner has to keep these while it uses the area.
 */
QcCached *qc_area_end(QcAreaBuilder *builder, const QcCachedKey *key);
void qc_area_clear(QcAreaBuilder *builder);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QcAreaBuilder, qc_area_clear)

/* The extent at an offset in an area, at most length bytes long. */
void qc_area_find(QcCached *area, uint64_t offset, uint64_t length, QcExtent *ret);

#endif
