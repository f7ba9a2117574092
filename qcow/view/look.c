/* look.c - see look.h. */
#include "look.h"
#include <string.h>

void qc_look_clear(QcLook *look)
{
    qc_cached_unref(look->l1);
    qc_cached_unref(look->l2);
    qc_cached_unref(look->page);
    *look = (QcLook){0};
}

/* Note the hole of the file that offset lies in, if it does. */
static void find_hole(QcLook *look, const QcImage *image, uint64_t offset)
{
    look->work += QC_WORK_CALL;
    look->hole_of = image;
    look->hole_from = offset;
    look->hole_end = qc_file_next_data(image->file, offset);
}

/* Whether all of a table is zeros. The part that was read for it stays in the cache. */
static int read_blank(QcLook *look, const QcImage *image, uint64_t offset)
{
    const QcLayout *l = &image->header.layout;
    uint64_t end = offset + qc_cluster_size(l), slice = qc_table_slice(l);
    for (; offset < end; offset += slice) {
        g_autoptr(QcCached) cached = NULL;
        int err = qc_image_table_slice(image, offset, slice, &cached);
        if (err < 0)
            return err;
        look->work += QC_WORK_CALL * MAX(1, slice / QC_WORK_BYTES);
        if (cached->data[0] || memcmp(cached->data, cached->data + 1, slice - 1) != 0)
            return 0;
    }
    return 1;
}

static bool in_known_hole(const QcLook *look, const QcImage *image, uint64_t offset)
{
    uint64_t size = qc_cluster_size(&image->header.layout);
    return look->hole_of == image && offset >= look->hole_from && offset < look->hole_end &&
           look->hole_end - offset >= size;
}

int qc_look_table_is_blank(QcLook *look, const QcImage *image, uint64_t offset)
{
    uint64_t size = image->info.stat.size, cluster = qc_cluster_size(&image->header.layout);
    g_autoptr(QcCached) cached = NULL;
    bool found;
    look->work++;
    if (!image->cacheable || offset > size || size - offset < cluster)
        return 0;
    if (in_known_hole(look, image, offset))
        return 1;
    look->work += QC_WORK_CACHE;
    int err = qc_image_find_cached(image, QC_CACHED_BLANK, offset, 1, &cached, &found);
    if (err < 0 || found)
        return err ? err : cached->data[0];
    find_hole(look, image, offset);
    int blank = in_known_hole(look, image, offset) ? 1 : read_blank(look, image, offset);
    if (blank < 0)
        return blank;
    cached->data[0] = (uint8_t)blank;
    qc_image_keep(image, cached);
    return blank;
}
