/* Fuzz target: the header of LUKS. The input is its bytes. */
#include "luks.h"
#include "fuzz.h"
#include <errno.h>

static void check_text(const char *text, size_t size)
{
    fuzz_require(memchr(text, 0, size) != NULL, "a text has no end");
}

static void check_texts(const QcLuks *luks)
{
    check_text(luks->cipher_alg, sizeof(luks->cipher_alg));
    check_text(luks->cipher_mode, sizeof(luks->cipher_mode));
    check_text(luks->ivgen_alg, sizeof(luks->ivgen_alg));
    check_text(luks->ivgen_hash_alg, sizeof(luks->ivgen_hash_alg));
    check_text(luks->hash_alg, sizeof(luks->hash_alg));
    check_text(luks->uuid, sizeof(luks->uuid));
}

/* The mode's parts, put together again, are the field. */
static void check_mode(const QcLuks *luks, const char *field, size_t size)
{
    g_autofree char *mode = g_strndup(field, size);
    g_autofree char *parts = g_strdup_printf("%s-%s", luks->cipher_mode, luks->ivgen_alg);
    fuzz_require(g_str_has_prefix(mode, parts), "%s", parts);
    fuzz_require(g_str_has_suffix(mode, luks->ivgen_hash_alg), "%s", luks->ivgen_hash_alg);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    static const QcLuks untouched = {.cipher_alg = "x", .payload_offset = 1};
    QcLuks luks = untouched;
    int err = qc_luks_decode(data, size, &luks);
    if (err < 0) {
        fuzz_require(err == -EINVAL, "%d", err);
        fuzz_require(memcmp(&luks, &untouched, sizeof(luks)) == 0, "touched on failure");
        return;
    }
    const QcDiskLuksHeader *h = (const QcDiskLuksHeader *)data;
    fuzz_require(size >= sizeof(*h));
    check_texts(&luks);
    check_mode(&luks, h->cipher_mode, sizeof(h->cipher_mode));
    fuzz_require(luks.payload_offset % 512 == 0 && luks.payload_offset >> 41 == 0);
    for (unsigned i = 0; i < QC_LUKS_SLOTS; i++)
        fuzz_require(luks.slots[i].key_offset % 512 == 0 && luks.slots[i].key_offset >> 41 == 0);
}
