/*
 * inflate.c - see inflate.h.
 *
 * Deflate goes through libdeflate, which is about twice as fast as zlib when whole buffers
 * are at hand, as here. Both decoders are made when first needed.
 */
#include "inflate.h"
#include "format.h"
#include <errno.h>
#include <glib.h>
#include <libdeflate.h>
#include <stdbool.h>
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

/* Frames that this library wrote once, before the format was settled, are none of ours. */
static bool is_zstd_frame(const uint8_t *in, size_t len)
{
    uint32_t magic = len < 4 ? 0 : in[0] | in[1] << 8 | in[2] << 16 | (uint32_t)in[3] << 24;
    return magic == ZSTD_MAGICNUMBER ||
           (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

/*
 * One frame or several, until the cluster is full; the last must end just there. Frames are
 * decoded as a whole: decoding them as a stream would take as much memory as they ask for.
 */
static int inflate_zstd(QcInflater *inflater, const uint8_t *in, size_t in_len, uint8_t *out,
                        size_t out_len)
{
    if (!inflater->zstd)
        inflater->zstd = ZSTD_createDCtx();
    if (!inflater->zstd)
        return -ENOMEM;
    while (out_len > 0) {
        size_t frame = is_zstd_frame(in, in_len) ? ZSTD_findFrameCompressedSize(in, in_len) : 0;
        if (frame == 0 || ZSTD_isError(frame))
            return -EIO;
        size_t made = ZSTD_decompressDCtx(inflater->zstd, out, out_len, in, frame);
        if (ZSTD_isError(made))
            return -EIO;
        in += frame;
        in_len -= frame;
        out += made;
        out_len -= made;
    }
    return 0;
}

int qc_inflate(QcInflater *inflater, uint8_t compression_type, const void *in, size_t in_len,
               void *out, size_t out_len)
{
    if (compression_type == QC_COMPRESSION_ZSTD)
        return inflate_zstd(inflater, in, in_len, out, out_len);
    return inflate_deflate(inflater, in, in_len, out, out_len);
}
