/*
 * Fuzz target: compressed clusters. The input is a compression type, a cluster size and a
 * stream. What decodes must fill the cluster, be the same every time, and be what zlib makes
 * of it too.
 */
#include "inflate.h"
#include "fuzz.h"
#include <errno.h>
#include <string.h>
#include <zlib.h>

/* 0 when zlib finds a stream that ends just where the cluster does, else -EIO. */
static int inflate_with_zlib(const void *in, size_t in_len, uint8_t *out, size_t out_len)
{
    z_stream z = {.next_in = (Bytef *)in,
                  .avail_in = (uInt)in_len,
                  .next_out = out,
                  .avail_out = (uInt)out_len};
    if (inflateInit2(&z, -15) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return r == Z_STREAM_END && z.avail_out == 0 ? 0 : -EIO;
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    uint8_t type = fuzz_take(&in, 1) & 1;
    size_t len = (size_t)512 << fuzz_take(&in, 1) % 8;
    g_autofree uint8_t *a = g_malloc(len), *b = g_malloc(len);
    QcInflater *inflater = qc_inflater_new();

    memset(a, 0x55, len);
    memset(b, 0xaa, len);
    int err = qc_inflate(inflater, type, in.at, in.left, a, len);
    fuzz_require(err == 0 || err == -EIO, "%d", err);
    fuzz_require(qc_inflate(inflater, type, in.at, in.left, b, len) == err, "not the same again");
    if (!err)
        fuzz_require(memcmp(a, b, len) == 0, "some bytes are left as they were");
    if (type == 0) {
        fuzz_require(inflate_with_zlib(in.at, in.left, b, len) == err, "zlib disagrees");
        fuzz_require(err || memcmp(a, b, len) == 0, "zlib reads something else");
    }
    qc_inflater_free(inflater);
}
