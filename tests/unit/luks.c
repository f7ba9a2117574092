/* The header of LUKS 1: what QEMU tells of it, texts that fill their fields, and no header. */
#include "luks.h"
#include <criterion/criterion.h>
#include <errno.h>

static QcDiskLuksHeader sample(void)
{
    return (QcDiskLuksHeader){
        .magic = {'L', 'U', 'K', 'S', 0xba, 0xbe},
        .version = be16_make(1),
        .cipher_name = "aes",
        .cipher_mode = "xts-plain64",
        .hash_spec = "sha256",
        .payload_offset = be32_make(4040),
        .key_bytes = be32_make(64),
        .mk_digest_iterations = be32_make(1000),
        .uuid = "f2e0ff5b-4d4a-4e7c-a4b5-4f5c8e8d4b1e",
        .slots[1] = {.active = be32_make(QC_LUKS_SLOT_ACTIVE),
                     .iterations = be32_make(2000),
                     .key_material_offset = be32_make(UINT32_MAX),
                     .stripes = be32_make(4000)},
    };
}

static QcLuks decode(const QcDiskLuksHeader *h)
{
    QcLuks luks;
    cr_assert_eq(qc_luks_decode(h, sizeof(*h), &luks), 0);
    return luks;
}

/* Refused, and the result is left alone. */
static void expect_refused(const void *bytes, size_t len, const char *why)
{
    QcLuks luks = {.master_key_iters = 77};
    cr_expect_eq(qc_luks_decode(bytes, len, &luks), -EINVAL, "%s", why);
    cr_expect_eq(luks.master_key_iters, 77, "%s", why);
    cr_expect_str_empty(luks.cipher_mode, "%s", why);
}

Test(luks, a_header_is_told_as_qemu_tells_it)
{
    QcDiskLuksHeader h = sample();
    QcLuks luks = decode(&h);
    cr_expect_str_eq(luks.cipher_alg, "aes-256", "%s", luks.cipher_alg);
    cr_expect_str_eq(luks.cipher_mode, "xts");
    cr_expect_str_eq(luks.ivgen_alg, "plain64");
    cr_expect_str_empty(luks.ivgen_hash_alg);
    cr_expect_str_eq(luks.hash_alg, "sha256");
    cr_expect_str_eq(luks.uuid, h.uuid);
    cr_expect_eq(luks.payload_offset, 4040 * 512);
    cr_expect_eq(luks.master_key_iters, 1000);
    cr_expect_not(luks.slots[0].active);
    cr_expect(luks.slots[1].active);
    cr_expect_eq(luks.slots[1].iters, 2000);
    cr_expect_eq(luks.slots[1].stripes, 4000);
    cr_expect_eq(luks.slots[1].key_offset, UINT64_C(512) * UINT32_MAX);
}

Test(luks, a_mode_has_parts)
{
    static const struct {
        const char *text, *mode, *ivgen, *hash; /* mode NULL: refused */
    } cases[] = {
        {"cbc-essiv:sha256", "cbc", "essiv", "sha256"},
        {"cbc-essiv:sha-2:56", "cbc", "essiv", "sha-2:56"},
        {"ecb-", "ecb", "", ""},
        {"-plain", "", "plain", ""},
        {"-", "", "", ""},
        {"cbc:sha256", NULL, NULL, NULL},
        {"xts", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcDiskLuksHeader h = sample();
        g_strlcpy(h.cipher_mode, cases[i].text, sizeof(h.cipher_mode));
        if (!cases[i].mode) {
            expect_refused(&h, sizeof(h), cases[i].text);
            continue;
        }
        QcLuks luks = decode(&h);
        cr_expect_str_eq(luks.cipher_mode, cases[i].mode, "%s", cases[i].text);
        cr_expect_str_eq(luks.ivgen_alg, cases[i].ivgen, "%s", cases[i].text);
        cr_expect_str_eq(luks.ivgen_hash_alg, cases[i].hash, "%s", cases[i].text);
    }
}

Test(luks, a_key_has_a_length)
{
    static const struct {
        const char *cipher, *mode;
        uint32_t bytes;
        const char *alg;
    } cases[] = {
        {"aes", "cbc-plain", 32, "aes-256"},
        {"twofish", "xts-plain", 32, "twofish-128"},
        {"cast5", "cbc-plain", 16, "cast5-128"},
        {"aes", "cbc-plain", UINT32_MAX, "aes-34359738360"},
        {"aes", "xts-plain", UINT32_MAX, "aes-17179869180"},
        {"", "cbc-plain", 0, "-0"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcDiskLuksHeader h = sample();
        g_strlcpy(h.cipher_name, cases[i].cipher, sizeof(h.cipher_name));
        g_strlcpy(h.cipher_mode, cases[i].mode, sizeof(h.cipher_mode));
        h.key_bytes = be32_make(cases[i].bytes);
        cr_expect_str_eq(decode(&h).cipher_alg, cases[i].alg, "case %zu", i);
    }
}

Test(luks, texts_may_fill_their_fields)
{
    QcDiskLuksHeader h = sample();
    memset(h.cipher_name, 'c', sizeof(h.cipher_name));
    memset(h.cipher_mode, 'm', sizeof(h.cipher_mode));
    memset(h.hash_spec, 'h', sizeof(h.hash_spec));
    memset(h.uuid, 'u', sizeof(h.uuid));
    expect_refused(&h, sizeof(h), "a mode with neither an end nor a part");
    h.cipher_mode[0] = '-';
    h.key_bytes = be32_make(UINT32_MAX);
    QcLuks luks = decode(&h);
    cr_expect_eq(strlen(luks.cipher_alg), 32 + strlen("-34359738360"), "%s", luks.cipher_alg);
    cr_expect_eq(strspn(luks.cipher_alg, "c"), 32);
    cr_expect_eq(strspn(luks.ivgen_alg, "m"), 31);
    cr_expect_eq(strlen(luks.ivgen_alg), 31);
    cr_expect_eq(strspn(luks.hash_alg, "h"), 32);
    cr_expect_eq(strlen(luks.hash_alg), 32);
    cr_expect_eq(strspn(luks.uuid, "u"), 40);
    cr_expect_eq(strlen(luks.uuid), 40);
}

Test(luks, what_is_no_header_is_refused)
{
    QcDiskLuksHeader h = sample();
    for (size_t len = 0; len < sizeof(h); len++) {
        g_autofree uint8_t *part = g_memdup2(&h, len); /* nothing behind it may be read */
        expect_refused(part, len, "short");
    }
    h.version = be16_make(2);
    expect_refused(&h, sizeof(h), "version 2");
    h = sample();
    h.magic[5]++;
    expect_refused(&h, sizeof(h), "another magic");
}
