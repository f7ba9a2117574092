/* The header and its extensions. */
#include "header.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

typedef struct Sample {
    uint8_t bytes[4096];
} Sample;

static void put32(Sample *s, size_t at, uint32_t x)
{
    be32 v = be32_make(x);
    memcpy(s->bytes + at, &v, sizeof(v));
}

static void put64(Sample *s, size_t at, uint64_t x)
{
    be64 v = be64_make(x);
    memcpy(s->bytes + at, &v, sizeof(v));
}

/* A valid version 3 header: 64 KiB clusters, 1 GiB. */
static Sample valid(void)
{
    Sample s = {0};
    put32(&s, 0, QCOW_MAGIC);
    put32(&s, 4, 3);
    put32(&s, 20, 16);
    put64(&s, 24, 1 << 30);
    put32(&s, 36, 2);
    put64(&s, 40, 0x30000);
    put64(&s, 48, 0x10000);
    put32(&s, 56, 1);
    put32(&s, 96, 4);
    put32(&s, 100, 112);
    return s;
}

static int decode(const Sample *s, QcHeader *ret)
{
    int err = qc_header_decode(s->bytes, sizeof(s->bytes), ret, NULL);
    return err ? err : qc_header_decode_extensions(ret, s->bytes, sizeof(s->bytes), NULL);
}

Test(header, a_valid_one)
{
    Sample s = valid();
    QcHeader h;
    cr_assert_eq(decode(&s, &h), 0);
    cr_expect_eq(h.size, 1 << 30);
    cr_expect_eq(h.layout.cluster_bits, 16);
    cr_expect_eq(h.layout.refcount_order, 4);
    cr_expect_eq(h.l1_entries, 2);
    cr_expect_eq(h.l1_offset, 0x30000);
    cr_expect_eq(h.compression_type, 0);
    cr_expect_not(h.layout.extended_l2);
}

Test(header, version_2_ignores_what_comes_after_its_header)
{
    Sample s = valid();
    QcHeader h;
    put32(&s, 4, 2);
    put32(&s, 96, 63);
    memset(s.bytes + 72, 0, 8); /* the end of the extensions */
    cr_assert_eq(decode(&s, &h), 0);
    cr_expect_eq(h.layout.refcount_order, 4);
    cr_expect_eq(h.header_length, 72);
}

/* Before there was a compression type, extensions began where it is now. */
Test(header, a_short_version_3_header_has_no_compression_type)
{
    Sample s = valid();
    QcHeader h;
    put32(&s, 100, 104);
    put32(&s, 104, QC_EXT_BACKING_FORMAT);
    put32(&s, 108, 3);
    memcpy(s.bytes + 112, "raw", 3);
    cr_assert_eq(decode(&s, &h), 0);
    cr_expect_eq(h.compression_type, 0);
    cr_expect_eq(h.backing_format_at, 112);
    cr_expect_eq(h.backing_format_len, 3);
}

Test(header, what_is_not_valid_is_refused)
{
    static const struct {
        const char *what;
        size_t at;
        unsigned width;
        uint64_t value;
        int err;
    } cases[] = {
        {"magic", 0, 4, 0x12345678, -EINVAL},
        {"version 1", 4, 4, 1, -EOPNOTSUPP},
        {"version 4", 4, 4, 4, -EOPNOTSUPP},
        {"cluster bits 0", 20, 4, 0, -EINVAL},
        {"cluster bits 8", 20, 4, 8, -EINVAL},
        {"cluster bits 22", 20, 4, 22, -EINVAL},
        {"cluster bits 63", 20, 4, 63, -EINVAL},
        {"cluster bits 2^31", 20, 4, UINT32_C(1) << 31, -EINVAL},
        {"disk of 2^63 bytes", 24, 8, UINT64_C(1) << 63, -EINVAL},
        {"disk too large for its L1 table", 24, 8, UINT64_C(1) << 31, -EINVAL},
        {"unknown encryption", 32, 4, 3, -EOPNOTSUPP},
        {"L1 table too large", 36, 4, 0xffffffff, -EINVAL},
        {"L1 table too large by one entry", 36, 4, (32 << 20) / 8 + 1, -EINVAL},
        {"L1 table not aligned", 40, 8, 0x30001, -EINVAL},
        {"L1 table beyond 2^56", 40, 8, UINT64_C(1) << 56, -EINVAL},
        {"refcount table not aligned", 48, 8, 0x10200, -EINVAL},
        {"no refcount table", 56, 4, 0, -EINVAL},
        {"refcount table too large", 56, 4, 129, -EINVAL},
        {"refcount table of 2^32 clusters", 56, 4, 0xffffffff, -EINVAL},
        {"too many snapshots", 60, 4, 65537, -EINVAL},
        {"snapshot table not aligned", 64, 8, 1, -EINVAL},
        {"snapshot table beyond 2^56", 64, 8, UINT64_C(1) << 56, -EINVAL},
        {"unknown feature", 72, 8, 32, -EOPNOTSUPP},
        {"feature bit without compression type", 72, 8, 8, -EINVAL},
        {"refcount order 7", 96, 4, 7, -EINVAL},
        {"refcount order 63", 96, 4, 63, -EINVAL},
        {"header length 103", 100, 4, 103, -EINVAL},
        {"header length 96", 100, 4, 96, -EINVAL},
        {"header length 108", 100, 4, 108, -EINVAL},
        {"header length 2^32-8", 100, 4, 0xfffffff8, -EINVAL},
        {"compression type 1 without its bit", 104, 1, 1, -EINVAL},
        {"compression type 2", 104, 1, 2, -EOPNOTSUPP},
        {"backing name outside the cluster", 8, 8, 0xffffffffffffff00, -EINVAL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Sample s = valid();
        QcHeader h;
        g_autoptr(GError) error = NULL;
        if (cases[i].width == 8)
            put64(&s, cases[i].at, cases[i].value);
        else if (cases[i].width == 4)
            put32(&s, cases[i].at, (uint32_t)cases[i].value);
        else
            s.bytes[cases[i].at] = (uint8_t)cases[i].value;
        cr_expect_eq(qc_header_decode(s.bytes, sizeof(s.bytes), &h, &error), cases[i].err, "%s",
                     cases[i].what);
        cr_expect_not_null(error, "%s", cases[i].what);
    }
}

Test(header, where_the_name_of_the_backing_file_may_lie)
{
    static const struct {
        uint64_t offset;
        uint32_t size;
        int err;
    } cases[] = {
        {0, 5000, 0}, /* there is none, whatever its size */
        {112, 1023, 0},      {112, 1024, -EINVAL},    {111, 8, -EINVAL},
        {65536 - 8, 8, 0},   {65536 - 8, 9, -EINVAL}, {65536, 0, 0},
        {65537, 0, -EINVAL}, {65537, 8, -EINVAL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Sample s = valid();
        QcHeader h;
        put64(&s, 8, cases[i].offset);
        put32(&s, 16, cases[i].size);
        int err = qc_header_decode(s.bytes, sizeof(s.bytes), &h, NULL);
        cr_expect_eq(err, cases[i].err, "case %zu: %d", i, err);
        if (!err && cases[i].offset == 0)
            cr_expect_eq(0, qc_header_decode_extensions(&h, s.bytes, sizeof(s.bytes), NULL));
    }
}

Test(header, truncated)
{
    Sample s = valid();
    QcHeader h;
    for (size_t len = 0; len < QC_V3_HEADER_LENGTH; len++)
        cr_assert_eq(qc_header_decode(s.bytes, len, &h, NULL), -EINVAL, "%zu bytes", len);
}

Test(header, extended_l2_needs_16k_clusters)
{
    Sample s = valid();
    QcHeader h;
    put64(&s, 72, QC_INCOMPAT_EXTENDED_L2);
    put32(&s, 36, 4);
    cr_expect_eq(decode(&s, &h), 0);
    put32(&s, 20, 13);
    put64(&s, 24, 1 << 20);
    cr_expect_eq(decode(&s, &h), -EINVAL);
}

Test(header, extensions)
{
    Sample s = valid();
    QcHeader h;
    put32(&s, 112, QC_EXT_BACKING_FORMAT);
    put32(&s, 116, 5);
    memcpy(s.bytes + 120, "qcow2", 5);
    put32(&s, 128, 0x12345678); /* unknown: skipped */
    put32(&s, 132, 3);
    put32(&s, 144, QC_EXT_LUKS);
    put32(&s, 148, 16);
    put64(&s, 152, 0x50000);
    put64(&s, 160, 0x1000);
    put64(&s, 8, 184);
    put32(&s, 16, 9);
    memcpy(s.bytes + 184, "base.qcow", 9);
    cr_assert_eq(decode(&s, &h), 0);
    cr_expect_eq(h.backing_format_at, 120);
    cr_expect_eq(h.backing_format_len, 5);
    cr_expect_eq(h.luks_offset, 0x50000);
    cr_expect_eq(h.luks_length, 0x1000);
    cr_expect_eq(h.backing_offset, 184);
    cr_expect_eq(h.backing_size, 9);
}

/* The result of decoding a header with this one extension. */
static int decode_extension(uint32_t type, const void *data, uint32_t len, bool bitmaps_are_true)
{
    Sample s = valid();
    QcHeader h;
    put64(&s, 88, bitmaps_are_true ? QC_AUTOCLEAR_BITMAPS : 0);
    put32(&s, 112, type);
    put32(&s, 116, len);
    memcpy(s.bytes + 120, data, len);
    int err = decode(&s, &h);
    if (!err && type == QC_EXT_BITMAPS)
        cr_expect_eq(h.has_bitmaps, bitmaps_are_true);
    return err;
}

Test(header, a_bitmaps_extension_has_to_be_valid_where_it_is_true)
{
    static const struct {
        uint32_t n;
        uint64_t size, offset;
        int err;
    } cases[] = {
        {1, 32, 0x10000, 0},
        {65535, 64 << 20, 0x10000, 0},
        {0, 32, 0x10000, -EINVAL},
        {65536, 64 << 20, 0x10000, -EINVAL},
        {1, (64 << 20) + 1, 0x10000, -EINVAL},
        {1, 32, 0x10200, -EINVAL},
        {1, 32, UINT64_C(1) << 56, -EINVAL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcDiskBitmaps d = {.nb_bitmaps = be32_make(cases[i].n),
                           .directory_size = be64_make(cases[i].size),
                           .directory_offset = be64_make(cases[i].offset)};
        cr_expect_eq(cases[i].err, decode_extension(QC_EXT_BITMAPS, &d, sizeof(d), true), "%zu", i);
        cr_expect_eq(0, decode_extension(QC_EXT_BITMAPS, &d, sizeof(d), false), "%zu", i);
    }
}

Test(header, extensions_have_the_length_of_their_kind)
{
    static const uint8_t bytes[32];
    for (uint32_t len = 0; len <= sizeof(bytes); len += 4) {
        int bitmaps = len == sizeof(QcDiskBitmaps) ? 0 : -EINVAL;
        int luks = len == sizeof(QcDiskLuks) ? 0 : -EINVAL;
        cr_expect_eq(bitmaps, decode_extension(QC_EXT_BITMAPS, bytes, len, false), "%u", len);
        cr_expect_eq(luks, decode_extension(QC_EXT_LUKS, bytes, len, false), "%u", len);
    }
}

Test(header, an_extension_longer_than_the_cluster_is_refused)
{
    static const uint32_t lengths[] = {0xffffffff, 0x7fffffff, 65536};
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        Sample s = valid();
        QcHeader h;
        put32(&s, 112, 0x11111111);
        put32(&s, 116, lengths[i]);
        cr_expect_eq(decode(&s, &h), -EINVAL);
    }
}

Test(header, extensions_that_reach_past_what_was_read_ask_for_more)
{
    Sample s = valid();
    QcHeader h;
    put32(&s, 112, 0x11111111);
    put32(&s, 116, 5000);
    cr_expect_eq(decode(&s, &h), -ENODATA);
}
