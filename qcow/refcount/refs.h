/*
 * refs.h - the refcounts of an image, as a model in memory of what they are to become.
 * §"Host cluster management".
 *
 * Loaded whole, changed in memory, and written to clusters that were free before: what is on
 * disk is never touched. A cluster that was in use when the model was loaded is not given
 * out by it, even after its count has dropped to 0.
 */
#ifndef QCOW_REFS_H
#define QCOW_REFS_H

#include "image.h"
#include "meter.h"

typedef struct QcRefs QcRefs;

/* -EUCLEAN: refcount table or blocks are broken. -EIO, -ENOMEM, -ECANCELED. */
int qc_refs_load(QcImage *image, QcMeter *meter, QcRefs **ret, GError **error);
void qc_refs_free(QcRefs *refs); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcRefs, qc_refs_free)

/* The count of a cluster as it is to become. */
uint64_t qc_refs_get(const QcRefs *refs, uint64_t cluster);

/*
 * How often a cluster is referred to, as far as COPIED flags depend on it. The same as
 * qc_refs_get() tells, but kept closer together: for large numbers of clusters in any order.
 */
typedef enum QcRefUse {
    QC_REF_UNUSED,
    QC_REF_SINGLE,
    QC_REF_SHARED,
} QcRefUse;
/* Rows of so many clusters or more are looked at together: their counts are neighbours anyway. */
#define QC_LONG_ROW 8
/* The use of the first of count clusters, and of how many from there on it is the same. */
uint64_t qc_refs_same_use(const QcRefs *refs, uint64_t first, uint64_t count, QcRefUse *ret);
/* Of one cluster. Keeps an eighth of what the counts take, or less. -ENOMEM. */
int qc_refs_use(QcRefs *refs, uint64_t cluster, QcRefUse *ret);
/* Entry i of an L2 table is asked about next, and then those behind it: as qc_refs_prefetch(). */
void qc_refs_prefetch_use(const QcRefs *refs, const uint8_t *table, uint64_t i);

/*
 * Add delta (1 or -1) to count clusters from first on. -EUCLEAN when one of them was not in
 * use when the model was loaded or would fall below 0; -EFBIG when its count would not fit
 * the width. After an error the model is of no use.
 */
int qc_refs_add(QcRefs *refs, uint64_t first, uint64_t count, int delta);

/*
 * The count of a cluster will be needed soon: let the processor fetch it, as it would otherwise
 * wait for memory at each of them.
 */
void qc_refs_prefetch(const QcRefs *refs, uint64_t cluster);

/*
 * Give out count clusters in a row and set each one's count to value. -ENOSPC: the device is
 * full; -EFBIG: beyond what the format can address; -ENOMEM.
 */
int qc_refs_alloc(QcRefs *refs, uint64_t count, uint64_t value, uint64_t *ret_first);

/*
 * Find a place for every refcount block that changed and for the table, and account for
 * them, the old ones included. Nothing may be added or given out afterwards. Errors of
 * qc_refs_add() and qc_refs_alloc(); -EFBIG when the table becomes too large.
 */
int qc_refs_place(QcRefs *refs, uint64_t *ret_table_offset, uint32_t *ret_table_clusters);

/* Hand the blocks that were placed, one by one, and then the table as a whole to put. -ENOMEM, or
 * the first result of put other than 0. */
typedef int (*QcRefsPut)(void *data, uint64_t offset, const void *bytes, size_t len);
int qc_refs_write(QcRefs *refs, QcRefsPut put, void *data);

#endif
