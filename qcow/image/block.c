/* block.c - bytes, tables and compressed clusters of an image. */
#include "block.h"
#include <string.h>

int qc_image_read(const QcImage *image, void *buf, size_t len, uint64_t offset)
{
    uint64_t size = image->info.stat.size;
    size_t there = offset < size ? (size_t)MIN(len, size - offset) : 0;
    int err = there > 0 ? qc_file_read(image->file, buf, there, offset) : 0;
    memset((uint8_t *)buf + there, 0, len - there);
    return err == -ENODATA ? -EIO : err; /* cut off since: zeros would be a lie */
}

/*
 * Find a block of size bytes or more in the cache, or make an empty one for the caller to fill
 * (*ret_found false).
 */
static int get_block(const QcImage *image, QcBlockKind kind, uint64_t offset, uint64_t size,
                     QcBlock **ret, bool *ret_found)
{
    QcBlockKey key = {.owner = image->owner, .offset = offset, .kind = kind};
    QcBlock *block = image->cacheable ? qc_cache_find(image->cache, &key) : NULL;
    if (block && block->size < size) /* of a damaged image, where one table lies in another */
        g_clear_pointer(&block, qc_block_unref);
    *ret_found = block != NULL;
    if (!block)
        block = qc_block_new(&key, (size_t)size);
    if (!block)
        return -ENOMEM;
    *ret = block;
    return 0;
}

int qc_image_table_slice(const QcImage *image, uint64_t offset, uint64_t size, QcBlock **ret)
{
    g_autoptr(QcBlock) block = NULL;
    bool found;
    int err = get_block(image, QC_BLOCK_TABLE, offset, size, &block, &found);
    if (!err && !found) {
        err = qc_image_read(image, block->data, block->size, offset);
        if (!err && image->cacheable)
            qc_cache_add(image->cache, block);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&block);
    return 0;
}

void qc_look_clear(QcLook *look)
{
    qc_block_unref(look->l1);
    qc_block_unref(look->l2);
    qc_block_unref(look->page);
    *look = (QcLook){0};
}

/* Note the hole of the file that offset lies in, if it does. */
static void look_for_hole(const QcImage *image, uint64_t offset, QcLook *look)
{
    look->work += QC_WORK_CALL;
    look->hole_of = image;
    look->hole_from = offset;
    look->hole_end = qc_file_next_data(image->file, offset);
}

/* Whether all of a table is zeros. The part that was read for it stays in the cache. */
static int read_blank(const QcImage *image, uint64_t offset, QcLook *look)
{
    const QcLayout *l = &image->header.layout;
    uint64_t end = offset + qc_cluster_size(l), slice = qc_table_slice(l);
    for (; offset < end; offset += slice) {
        g_autoptr(QcBlock) block = NULL;
        int err = qc_image_table_slice(image, offset, slice, &block);
        if (err < 0)
            return err;
        look->work += QC_WORK_CALL * MAX(1, slice / QC_WORK_BYTES);
        if (block->data[0] || memcmp(block->data, block->data + 1, slice - 1) != 0)
            return 0;
    }
    return 1;
}

static bool in_known_hole(const QcImage *image, uint64_t offset, const QcLook *look)
{
    uint64_t size = qc_cluster_size(&image->header.layout);
    return look->hole_of == image && offset >= look->hole_from && offset < look->hole_end &&
           look->hole_end - offset >= size;
}

int qc_image_table_is_blank(const QcImage *image, uint64_t offset, QcLook *look)
{
    uint64_t size = image->info.stat.size, cluster = qc_cluster_size(&image->header.layout);
    g_autoptr(QcBlock) block = NULL;
    bool found;
    look->work++;
    if (!image->cacheable || offset > size || size - offset < cluster)
        return 0;
    if (in_known_hole(image, offset, look))
        return 1;
    look->work += 16;
    int err = get_block(image, QC_BLOCK_BLANK, offset, 1, &block, &found);
    if (err < 0 || found)
        return err ? err : block->data[0];
    look_for_hole(image, offset, look);
    int blank = in_known_hole(image, offset, look) ? 1 : read_blank(image, offset, look);
    if (blank < 0)
        return blank;
    block->data[0] = (uint8_t)blank;
    qc_cache_add(image->cache, block);
    return blank;
}

int qc_image_inflate_to(const QcImage *image, uint64_t host_offset, uint32_t host_length, void *buf)
{
    uint64_t file_size = image->info.stat.size;
    if (host_offset >= file_size)
        return -EIO;
    size_t len = (size_t)MIN(host_length, file_size - host_offset);
    g_autofree uint8_t *in = g_try_malloc(len);
    QcInflater *inflater = qc_cache_get_inflater(image->cache);
    int err = in && inflater ? qc_image_read(image, in, len, host_offset) : -ENOMEM;
    if (!err)
        err = qc_inflate(inflater, image->header.compression_type, in, len, buf,
                         qc_cluster_size(&image->header.layout));
    if (inflater)
        qc_cache_put_inflater(image->cache, inflater);
    return err;
}

int qc_image_inflate(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                     QcBlock **ret)
{
    g_autoptr(QcBlock) block = NULL;
    bool found;
    uint64_t size = qc_cluster_size(&image->header.layout);
    int err = get_block(image, QC_BLOCK_CLUSTER, host_offset, size, &block, &found);
    if (!err && !found) {
        err = qc_image_inflate_to(image, host_offset, host_length, block->data);
        if (!err && image->cacheable)
            qc_cache_add(image->cache, block);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&block);
    return 0;
}
