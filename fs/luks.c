#include "luks.h"

#include <glib.h>
#include <string.h>

/* Where the fields are; integers are big-endian. */
enum {
    AT_CIPHER_NAME = 8,
    AT_CIPHER_MODE = 40,
    AT_HASH = 72,
    AT_PAYLOAD = 104, /* sectors */
    AT_KEY_BYTES = 108,
    AT_MASTER_ITERS = 164,
    AT_UUID = 168,
    AT_SLOTS = 208,
    SLOT_BYTES = 48,
    SLOT_AT_ITERS = 4,
    SLOT_AT_OFFSET = 40, /* sectors */
    SLOT_AT_STRIPES = 44,
    TEXT_BYTES = 32,
    UUID_BYTES = 40,
    SECTOR = 512,
};

#define SLOT_ACTIVE 0x00ac71f3u

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A field of len bytes that may lack its NUL; to holds len + 1. */
static void get_text(char *to, const unsigned char *field, size_t len)
{
    memcpy(to, field, len);
    to[len] = '\0';
}

/* "xts-plain64" or "cbc-essiv:sha256" -> mode, IV generator, its hash. */
static bool split_mode(const char *text, LuksInfo *ret)
{
    g_auto(GStrv) parts = g_strsplit(text, "-", 2);

    if (!parts[0] || !parts[1])
        return false;

    g_auto(GStrv) ivgen = g_strsplit(parts[1], ":", 2);
    g_strlcpy(ret->cipher_mode, parts[0], sizeof(ret->cipher_mode));
    g_strlcpy(ret->ivgen_alg, ivgen[0] ? ivgen[0] : "", sizeof(ret->ivgen_alg));
    if (ivgen[0] && ivgen[1]) {
        g_strlcpy(ret->ivgen_hash, ivgen[1], sizeof(ret->ivgen_hash));
        ret->ivgen_hash_alg = ret->ivgen_hash;
    }
    return true;
}

/* QEMU names a cipher with the length of its key; XTS uses two keys. */
static void name_cipher(LuksInfo *ret, const char *cipher, uint32_t key_bytes)
{
    uint32_t bits = MIN(key_bytes, 1024u) * 8 / (strcmp(ret->cipher_mode, "xts") == 0 ? 2 : 1);

    if (strcmp(cipher, "cast5") == 0)
        g_snprintf(ret->cipher_alg, sizeof(ret->cipher_alg), "cast5-128");
    else
        g_snprintf(ret->cipher_alg, sizeof(ret->cipher_alg), "%.20s-%u", cipher, bits);
}

static void get_slot(const unsigned char *p, LuksSlot *ret)
{
    ret->active = get32(p) == SLOT_ACTIVE;
    ret->iters = get32(p + SLOT_AT_ITERS);
    ret->key_offset = (uint64_t)get32(p + SLOT_AT_OFFSET) * SECTOR;
    ret->stripes = get32(p + SLOT_AT_STRIPES);
}

bool luks_parse(const unsigned char header[LUKS_HEADER_BYTES], LuksInfo *ret)
{
    static const unsigned char magic[] = {'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1};
    char cipher[TEXT_BYTES + 1], mode[TEXT_BYTES + 1];

    memset(ret, 0, sizeof(*ret));
    if (memcmp(header, magic, sizeof(magic)) != 0)
        return false;
    get_text(cipher, header + AT_CIPHER_NAME, TEXT_BYTES);
    get_text(mode, header + AT_CIPHER_MODE, TEXT_BYTES);
    if (!split_mode(mode, ret))
        return false;
    name_cipher(ret, cipher, get32(header + AT_KEY_BYTES));
    get_text(ret->hash_alg, header + AT_HASH, TEXT_BYTES);
    get_text(ret->uuid, header + AT_UUID, UUID_BYTES);
    ret->payload_offset = (uint64_t)get32(header + AT_PAYLOAD) * SECTOR;
    ret->master_key_iters = get32(header + AT_MASTER_ITERS);
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        get_slot(header + AT_SLOTS + i * SLOT_BYTES, &ret->slots[i]);
    return true;
}
