/*
 * refblocks.h - the inside of the refcount model, for refs.c and tally.c alone.
 */
#ifndef QCOW_REFBLOCKS_H
#define QCOW_REFBLOCKS_H

#include "refcodec.h"
#include "refs.h"

/* Counts that are looked at together, as most of a block is nothing. The smallest block, 512
 * bytes of 64-bit counts, has so many. */
#define QC_REF_RUN 64

typedef struct RefBlock {
    uint64_t offset;     /* on disk; 0 when there is none */
    uint64_t new_offset; /* where it is to be; 0 while it has not moved */
    uint8_t *counts;
    uint8_t *busy; /* a bit for each cluster; NULL: none */
    uint8_t *uses; /* two for each cluster: its QcRefUse; NULL until qc_refs_use() */
    uint32_t n_busy : 31;
    uint32_t dirty : 1; /* changed: it is in the queue, or has been */
    uint32_t next;      /* in the queue; see qc_refs_touch() */
} RefBlock;

struct QcRefs {
    QcImage *image;
    const QcLayout *layout;
    unsigned order;
    unsigned block_bits; /* log2 of the counts in a block */
    RefBlock *blocks;
    uint64_t n_blocks; /* up to the last one in use: the rest of the table is not even touched */
    uint64_t room;
    uint64_t max_clusters; /* what the format can count and address */
    uint64_t max_given;    /* of those, what may be given out: a device's own whole clusters */
    bool device;           /* it cannot grow at all: max_given is its capacity */
    uint64_t next_free;    /* no single cluster is free before this one */
    uint64_t table_offset; /* the new table; 0 until placed */
    uint64_t table_clusters;
    uint64_t first_dirty, last_dirty; /* queue of blocks to move: indexes, NO_BLOCK when empty */
};

static inline uint64_t counts_per_block(const QcRefs *r)
{
    return UINT64_C(1) << r->block_bits;
}

/* The block of a cluster, or NULL when the table does not reach so far. */
static inline RefBlock *block_of(const QcRefs *r, uint64_t cluster)
{
    uint64_t i = cluster >> r->block_bits;
    return i < r->n_blocks ? &r->blocks[i] : NULL;
}

static inline uint64_t index_of(const QcRefs *r, uint64_t cluster)
{
    return cluster & (counts_per_block(r) - 1);
}

/* Bytes in which each cluster of a block has a bit. */
static inline size_t bits_size(const QcRefs *r)
{
    return (counts_per_block(r) + 7) / 8;
}

static inline bool bit_get(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static inline void bit_set(uint8_t *bits, uint64_t i)
{
    bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

static inline void set_busy(RefBlock *b, uint64_t index)
{
    bit_set(b->busy, index);
    b->n_busy++;
}

static inline QcRefUse use_of_count(uint64_t count)
{
    return (QcRefUse)MIN(count, QC_REF_SHARED);
}

static inline void set_use(RefBlock *b, uint64_t index, QcRefUse use)
{
    unsigned shift = index % 4 * 2;
    b->uses[index / 4] = (uint8_t)((b->uses[index / 4] & ~(3u << shift)) | (unsigned)use << shift);
}

static inline void set_count(const QcRefs *r, RefBlock *b, uint64_t index, uint64_t count)
{
    qc_refcount_set(b->counts, r->order, index, count);
    if (b->uses)
        set_use(b, index, use_of_count(count));
}

/* A model with a table, but no counts. lenient: entries that are not valid are left out. */
int qc_refs_open(QcImage *image, bool lenient, QcRefs **ret);
/* Have blocks up to the one of cluster, with counts. -ENOMEM. */
int qc_refs_reach(QcRefs *r, uint64_t cluster);
/* Note that a block (index) changed: it has to move. Each is queued once. */
void qc_refs_touch(QcRefs *r, uint64_t i);
/* Whether two blocks have the same counts in a run; NULL is a block without any. */
bool qc_refs_same_run(const QcRefs *r, const uint8_t *a, const uint8_t *b, uint64_t first);

#endif
