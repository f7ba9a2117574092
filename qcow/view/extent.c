/* extent.c - see extent.h. */
#include "extent.h"

bool qc_extent_coalesce(QcExtent *e, const QcExtent *next)
{
    if (e->kind != next->kind || e->layer != next->layer) /* of one layer is of one image */
        return false;
    if (e->kind == QC_EXTENT_DATA && e->host_offset + e->length != next->host_offset)
        return false;
    if (e->kind == QC_EXTENT_COMPRESSED &&
        (e->host_offset != next->host_offset || e->skip + e->length != next->skip))
        return false;
    e->length += next->length;
    return true;
}
