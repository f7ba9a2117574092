/*
 * extent.h - making and joining extents (QcExtent, qcow.h). Pure, no I/O.
 */
#ifndef QCOW_EXTENT_H
#define QCOW_EXTENT_H

#include "qcow.h"

static inline QcExtent qc_extent_of(QcExtentKind kind, uint64_t length)
{
    return (QcExtent){.kind = kind, .length = length};
}

static inline QcExtent qc_extent_bad(int error, uint64_t length)
{
    return (QcExtent){.kind = QC_EXTENT_BAD, .length = length, .error = error};
}

static inline bool qc_extent_is_zeros(const QcExtent *e)
{
    return e->kind == QC_EXTENT_HOLE || e->kind == QC_EXTENT_ZERO;
}

/* Make next part of e when it continues it: a compressed extent, only within its cluster. */
bool qc_extent_coalesce(QcExtent *e, const QcExtent *next);

#endif
