/*
 * fetch.c - reading a view: a loop over its extents. How a piece is read depends on its extent
 * alone, not on the view.
 */
#include "extent.h"
#include "pieces.h"
#include "view.h"
#include <errno.h>
#include <string.h>

static int read_compressed(const QcExtent *e, void *buf, bool once)
{
    g_autoptr(QcCached) cached = NULL;
    bool whole = e->length == qc_cluster_size(&e->image->header.layout);
    if (once && whole)
        return qc_image_inflate_to(e->image, e->host_offset, e->host_length, buf);
    int err = qc_image_inflate(e->image, e->host_offset, e->host_length, &cached);
    if (!err)
        memcpy(buf, cached->data + e->skip, e->length);
    return err;
}

static int read_data(const QcExtent *e, void *buf, uint64_t pass)
{
    if (pass == 0 || e->layer > 0)
        return qc_image_read(e->image, buf, e->length, e->host_offset);
    return qc_image_read_past(e->image, pass, buf, e->length, e->host_offset);
}

static int read_extent(const QcExtent *e, void *buf, const QcReading *reading)
{
    switch (e->kind) {
    case QC_EXTENT_HOLE:
    case QC_EXTENT_ZERO:
        memset(buf, 0, e->length);
        return 0;
    case QC_EXTENT_DATA:
        return read_data(e, buf, reading->pass);
    case QC_EXTENT_COMPRESSED:
        return read_compressed(e, buf, reading->once);
    case QC_EXTENT_BAD:
    default:
        return -EIO;
    }
}

/* Read the first extent at offset, and note what came of it. */
static int64_t read_next(QcView *view, void *buf, size_t len, uint64_t offset, QcPlace *place,
                         QcReading *reading)
{
    QcExtent e;
    int err = qc_view_map_to_read(view, offset, len, place, &e);
    if (err < 0)
        return err;
    if (e.kind != QC_EXTENT_HOLE && e.layer < QC_MAX_LAYERS) /* behind the last: a broken one */
        reading->layers[e.layer / 64] |= UINT64_C(1) << e.layer % 64;
    reading->zeros = qc_extent_is_zeros(&e) && e.length == len;
    reading->decoded |= e.kind == QC_EXTENT_COMPRESSED;
    if (!reading->zeros)
        err = read_extent(&e, buf, reading);
    return err ? err : (int64_t)e.length;
}

ssize_t qc_view_fetch(QcView *view, void *buf, size_t len, uint64_t offset, QcReading *reading)
{
    g_auto(QcPlace) place = {0};
    memset(reading->layers, 0, sizeof(reading->layers));
    reading->zeros = false;
    reading->decoded = false;
    if (offset >= qc_view_size(view))
        return 0;
    len = (size_t)MIN(len, qc_view_size(view) - offset);
    for (size_t done = 0; done < len;) {
        uint8_t *at = (uint8_t *)buf + done;
        int64_t n = read_next(view, at, len - done, offset + done, &place, reading);
        if (n < 0)
            return n == -ENOMEM ? n : -EIO;
        if (reading->zeros && done > 0) { /* only the rest is zeros */
            memset(at, 0, len - done);
            reading->zeros = false;
        }
        done += (size_t)n;
    }
    return (ssize_t)len;
}

ssize_t qc_view_read(QcView *view, void *buf, size_t len, uint64_t offset)
{
    QcReading reading = {.once = false};
    ssize_t n = qc_view_fetch(view, buf, len, offset, &reading);
    if (reading.zeros && n > 0)
        memset(buf, 0, (size_t)n);
    return n;
}
