/*
 * area.h - what a stretch of a view is, looked up through all layers once: a block for the cache.
 *
 * A look-up asks every layer from the top down until one has something to say, so it costs the
 * more the longer the chain is. An area holds the answers for a stretch of guest bytes.
 */
#ifndef QCOW_AREA_H
#define QCOW_AREA_H

#include "cache.h"

/* As qc_view_map(). */
typedef int (*QcAreaMap)(void *data, uint64_t offset, uint64_t length, QcExtent *ret);

/*
 * Look up all of the area that starts at key's offset. The extents in it borrow their images:
 * the key's owner has to keep these while it uses the block. Errors of map; -ENOMEM.
 */
int qc_area_build(const QcBlockKey *key, uint64_t length, QcAreaMap map, void *data, QcBlock **ret);

/* The extent at an offset in the area, at most length bytes long. */
void qc_area_find(const QcBlock *area, uint64_t offset, uint64_t length, QcExtent *ret);

#endif
