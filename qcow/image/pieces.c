/* pieces.c - see pieces.h. */
#include "pieces.h"
#include <string.h>

/* How much of a range the file had when it was opened. */
static size_t there(const QcImage *image, size_t len, uint64_t offset)
{
    uint64_t size = image->info.stat.size;
    return offset < size ? (size_t)MIN(len, size - offset) : 0;
}

/* n bytes were there, and to read them ended with err; the rest is zeros. */
static int have_read(void *buf, size_t n, size_t len, int err)
{
    memset((uint8_t *)buf + n, 0, len - n);
    return err == -ENODATA ? -EIO : err; /* cut off since: zeros would be a lie */
}

int qc_image_read(const QcImage *image, void *buf, size_t len, uint64_t offset)
{
    size_t n = there(image, len, offset);
    return have_read(buf, n, len, n > 0 ? qc_file_read(image->file, buf, n, offset) : 0);
}

int qc_image_read_past(const QcImage *image, uint64_t pass, void *buf, size_t len, uint64_t offset)
{
    size_t n = there(image, len, offset);
    int err = n > 0 ? qc_file_read_past(image->file, pass, buf, n, offset) : 0;
    return have_read(buf, n, len, err);
}

int qc_image_find_cached(const QcImage *image, QcCachedKind kind, uint64_t offset, uint64_t size,
                         QcCached **ret, bool *ret_found)
{
    QcCachedKey key = {.owner = image->owner, .offset = offset, .kind = kind};
    QcCached *cached = image->cacheable ? qc_cache_find(image->cache, &key) : NULL;
    if (cached && cached->size < size) /* of a damaged image, where one table lies in another */
        g_clear_pointer(&cached, qc_cached_unref);
    *ret_found = cached != NULL;
    if (!cached)
        cached = qc_cached_new(&key, (size_t)size);
    if (!cached)
        return -ENOMEM;
    *ret = cached;
    return 0;
}

void qc_image_keep(const QcImage *image, QcCached *cached)
{
    if (image->cacheable)
        qc_cache_add(image->cache, cached);
}

int qc_image_table_slice(const QcImage *image, uint64_t offset, uint64_t size, QcCached **ret)
{
    g_autoptr(QcCached) cached = NULL;
    bool found;
    int err = qc_image_find_cached(image, QC_CACHED_TABLE, offset, size, &cached, &found);
    if (!err && !found) {
        err = qc_image_read(image, cached->data, cached->size, offset);
        if (!err)
            qc_image_keep(image, cached);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&cached);
    return 0;
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
                     QcCached **ret)
{
    g_autoptr(QcCached) cached = NULL;
    bool found;
    uint64_t size = qc_cluster_size(&image->header.layout);
    int err = qc_image_find_cached(image, QC_CACHED_CLUSTER, host_offset, size, &cached, &found);
    if (!err && !found) {
        err = qc_image_inflate_to(image, host_offset, host_length, cached->data);
        if (!err)
            qc_image_keep(image, cached);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&cached);
    return 0;
}
