/*
 * layout.h - finding the tables of an image in memory; shared by shape.c and mutate.c.
 */
#ifndef TESTS_LAYOUT_H
#define TESTS_LAYOUT_H

#include "format.h"

enum {
    SHAPE_MAX_SNAPSHOTS = 64, /* that are followed */
    SHAPE_MAX_L1 = 1 << 14,   /* entries that are followed */
};

typedef struct Shape {
    uint8_t *bytes;
    size_t len;
    QcDiskHeader header; /* a copy; shape_put_header() writes it */
    unsigned bits, order;
    bool v3, extended;
    uint64_t cluster, clusters; /* bytes in one; how many the file has, a part of one included */
} Shape;

/* False when the header is none, or its geometry is not valid. */
bool shape_read(Shape *shape, uint8_t *bytes, size_t len);
void shape_put_header(const Shape *shape);

uint64_t shape_word(const Shape *shape, uint64_t at); /* 0 outside the file */
void shape_put_word(const Shape *shape, uint64_t at, uint64_t value);

/* The number of 8-byte words at offset that lie in the file, at most n. */
uint64_t shape_words_inside(const Shape *shape, uint64_t offset, uint64_t n);

/* Called with the place of each L1 entry (level 1) and L2 entry (level 2) of a tree. */
typedef void (*ShapeVisit)(Shape *shape, uint64_t at, int level, void *data);
void shape_visit_tree(Shape *shape, uint64_t l1, uint32_t n, ShapeVisit visit, void *data);

/* Where the entries of the snapshot table are; returns their number. ret_end: of the table. */
unsigned shape_snapshots(const Shape *shape, uint64_t at[static SHAPE_MAX_SNAPSHOTS],
                         uint64_t *ret_end);

typedef struct ShapeCount {
    uint32_t *refs; /* how often each cluster is referred to (g_free) */
    bool outside;   /* something does not lie in the file */
    bool mixed;     /* a cluster is two of metadata, L2 table, and data */
} ShapeCount;
ShapeCount shape_count(Shape *shape);

/* The refcount of a cluster as it is stored. Setting does nothing where there is no block. */
uint64_t shape_refcount(const Shape *shape, uint64_t cluster);
void shape_set_refcount(const Shape *shape, uint64_t cluster, uint64_t value);

/*
 * Whether the COPIED flag of the entry at at is not what refs says; with fix, make it so. data: a
 * ShapeFlags.
 */
typedef struct ShapeFlags {
    const uint32_t *refs;
    bool fix;
    unsigned wrong;
} ShapeFlags;
void shape_visit_flags(Shape *shape, uint64_t at, int level, void *data);

#endif
