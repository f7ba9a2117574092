/* Which extents are one: what is read of the whole is what was read of its parts. */
#include "extent.h"

#include <criterion/criterion.h>

enum {
    LENGTH = 4096,
};

/* Whether next continues an extent of that kind, at offset 8192 of its file or with 512 skipped. */
static bool is_continued_by(QcExtentKind kind, const QcExtent *next)
{
    QcExtent e = {.kind = kind, .length = LENGTH, .host_offset = 8192, .host_length = 100};

    if (kind == QC_EXTENT_COMPRESSED)
        e.skip = 512;
    bool continued = qc_extent_coalesce(&e, next);
    cr_expect_eq(e.length, continued ? LENGTH + next->length : LENGTH);
    return continued;
}

Test(extent, data_goes_on_where_it_ended)
{
    QcExtent next = {.kind = QC_EXTENT_DATA, .length = 512, .host_offset = 8192 + LENGTH};

    cr_expect(is_continued_by(QC_EXTENT_DATA, &next));
    next.layer = 1;
    cr_expect_not(is_continued_by(QC_EXTENT_DATA, &next), "of another layer");
    next.layer = 0;
    next.host_offset += 512;
    cr_expect_not(is_continued_by(QC_EXTENT_DATA, &next), "elsewhere");
}

/* One is decoded as a whole, and may stand in several places. */
Test(extent, a_compressed_cluster_ends_where_another_begins)
{
    QcExtent next = {.kind = QC_EXTENT_COMPRESSED,
                     .length = 512,
                     .host_offset = 8192,
                     .host_length = 100,
                     .skip = 512 + LENGTH};

    cr_expect(is_continued_by(QC_EXTENT_COMPRESSED, &next));
    next.host_offset = 12288;
    cr_expect_not(is_continued_by(QC_EXTENT_COMPRESSED, &next), "another cluster");
    next.host_offset = 8192;
    next.skip = 0;
    cr_expect_not(is_continued_by(QC_EXTENT_COMPRESSED, &next), "the same once more");
}

Test(extent, what_is_read_in_another_way_is_another)
{
    const QcExtent hole = {.kind = QC_EXTENT_HOLE, .length = LENGTH};

    cr_expect(is_continued_by(QC_EXTENT_HOLE, &hole));
    cr_expect_not(is_continued_by(QC_EXTENT_ZERO, &hole));
    cr_expect_not(is_continued_by(QC_EXTENT_DATA, &hole));
    cr_expect_not(is_continued_by(QC_EXTENT_BAD, &hole));
}
