/* Compressed clusters: both methods, trailing garbage, and everything that must not decode. */
#include "inflate.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
    CLUSTER = 65536,
};

static uint8_t plain[CLUSTER];

static void fill(void)
{
    for (size_t i = 0; i < CLUSTER; i++)
        plain[i] = (uint8_t)(i / 7 ^ i % 13);
}

static size_t deflate_as_qemu(uint8_t *out, size_t room, size_t len)
{
    z_stream z = {
        .next_in = plain, .avail_in = (uInt)len, .next_out = out, .avail_out = (uInt)room};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

static size_t pack(int type, uint8_t *out, size_t room, size_t len)
{
    if (type == 0)
        return deflate_as_qemu(out, room, len);
    size_t n = ZSTD_compress(out, room, plain, len, 3);
    cr_assert_not(ZSTD_isError(n));
    return n;
}

Test(inflate, both_methods, .init = fill)
{
    QcInflater *inflater = qc_inflater_new();
    for (int type = 0; type < 2; type++) {
        g_autofree uint8_t *packed = g_malloc0(2 * CLUSTER), *out = g_malloc(CLUSTER);
        size_t n = pack(type, packed, 2 * CLUSTER, CLUSTER);
        memset(packed + n, 0xaa, 512); /* the length in an L2 entry is rounded up */
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n + 511, out, CLUSTER), 0);
        cr_expect_arr_eq(out, plain, CLUSTER);
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n / 2, out, CLUSTER), -EIO);
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, 0, out, CLUSTER), -EIO);
        packed[0] ^= 0xff;
        packed[1] ^= 0xff;
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n, out, CLUSTER), -EIO);
    }
    qc_inflater_free(inflater);
}

Test(inflate, a_stream_of_another_length_is_refused, .init = fill)
{
    QcInflater *inflater = qc_inflater_new();
    for (int type = 0; type < 2; type++) {
        g_autofree uint8_t *packed = g_malloc0(2 * CLUSTER), *out = g_malloc(CLUSTER);
        size_t n = pack(type, packed, 2 * CLUSTER, CLUSTER / 2);
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n, out, CLUSTER), -EIO);
        n = pack(type, packed, 2 * CLUSTER, CLUSTER);
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n, out, CLUSTER / 2), -EIO);
        cr_expect_eq(qc_inflate(inflater, (uint8_t)type, packed, n, out, CLUSTER), 0,
                     "the decoder recovers");
    }
    qc_inflater_free(inflater);
}
