/*
 * look.h - a search through the places of a view: how to look, and what has been learnt and spent
 * on the way. It is the caller's, and for one thread.
 *
 * The work that was spent bounds a search: a hostile image has millions of tables that hold
 * nothing. The slices that were looked at last are kept, as many places that follow each other come
 * from one.
 */
#ifndef QCOW_LOOK_H
#define QCOW_LOOK_H

#include "pieces.h"

enum {
    QC_WORK_CACHE = 16,     /* a look at the cache */
    QC_WORK_CALL = 64,      /* a system call ... */
    QC_WORK_BYTES = 4096,   /* ... that reads so much */
    QC_MAX_WORK = 80 << 20, /* of one search; about half a second */
};

/* Zero it, but for the first two. */
typedef struct QcLook {
    bool exact;                   /* tell holes of files apart, at the cost of system calls */
    uint64_t remembered;          /* guest bytes that the caller keeps the answers of; 0: none */
    uint64_t work;                /* spent: 1 is an L2 entry, some nanoseconds */
    const QcImage *hole_of;       /* the image whose file had a hole last; or NULL */
    uint64_t hole_from, hole_end; /* where that is */
    QcCached *l1, *l2;            /* the slices that were looked at last; references */
    QcCached *page;               /* the part of an L2 table that was read past the cache; owned */
} QcLook;

void qc_look_clear(QcLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QcLook, qc_look_clear)

/*
 * Whether the L2 table at offset holds nothing but zeros: 1, or 0 when not, or when that cannot
 * be remembered. -EIO, -ENOMEM.
 */
int qc_look_table_is_blank(QcLook *look, const QcImage *image, uint64_t offset);

#endif
