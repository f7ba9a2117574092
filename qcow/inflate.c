/*
 * inflate.c - see inflate.h.
 *
 * Deflate goes through libdeflate, which is about twice as fast as zlib when whole buffers
 * are at hand, as here. Both decoders are made when first needed.
 */
#include "inflate.h"
#include <errno.h>
#include <glib.h>
#include <libdeflate.h>
#include <zstd.h>

struct QcInflater {
    struct libdeflate_decompressor *deflate;
    ZSTD_DCtx *zstd;
};

QcInflater *qc_inflater_new(void)
{
    return g_try_new0(QcInflater, 1);
}

void qc_inflater_free(QcInflater *inflater)
{
    if (!inflater)
        return;
    libdeflate_free_decompressor(inflater->deflate);
    ZSTD_freeDCtx(inflater->zstd);
    g_free(inflater);
}

static int inflate_deflate(QcInflater *inflater, const void *in, size_t in_len, void *out,
                           size_t out_len)
{
    if (!inflater->deflate)
        inflater->deflate = libdeflate_alloc_decompressor();
    if (!inflater->deflate)
        return -ENOMEM;
    size_t used;
    enum libdeflate_result r =
        libdeflate_deflate_decompress_ex(inflater->deflate, in, in_len, out, out_len, &used, NULL);
    return r == LIBDEFLATE_SUCCESS ? 0 : -EIO;
}

/* One frame or several, until the cluster is full; the last must end just there. */
static int inflate_zstd(QcInflater *inflater, const void *in, size_t in_len, void *out,
                        size_t out_len)
{
    if (!inflater->zstd)
        inflater->zstd = ZSTD_createDCtx();
    if (!inflater->zstd)
        return -ENOMEM;
    ZSTD_DCtx_reset(inflater->zstd, ZSTD_reset_session_only);
    ZSTD_inBuffer src = {in, in_len, 0};
    ZSTD_outBuffer dst = {out, out_len, 0};
    size_t r = 1;
    while (dst.pos < dst.size) {
        size_t src_before = src.pos, dst_before = dst.pos;
        r = ZSTD_decompressStream(inflater->zstd, &dst, &src);
        if (ZSTD_isError(r) || (src.pos == src_before && dst.pos == dst_before))
            return -EIO;
    }
    return r == 0 ? 0 : -EIO;
}

int qc_inflate(QcInflater *inflater, uint8_t compression_type, const void *in, size_t in_len,
               void *out, size_t out_len)
{
    if (compression_type == 1)
        return inflate_zstd(inflater, in, in_len, out, out_len);
    return inflate_deflate(inflater, in, in_len, out, out_len);
}
