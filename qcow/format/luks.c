/* luks.c - see luks.h. */
#include "luks.h"
#include "format.h"
#include <errno.h>

static const uint8_t magic[] = {'L', 'U', 'K', 'S', 0xba, 0xbe};

/* Copy a field of len bytes that may lack its NUL; to has one byte more. */
static void get_text(char *to, const char *field, size_t len)
{
    memcpy(to, field, len);
    to[len] = '\0';
}

/* Cut text behind the first c; what follows it, or NULL where there is none. */
static char *cut_at(char *text, char c)
{
    char *at = strchr(text, c);
    if (!at)
        return NULL;
    *at = '\0';
    return at + 1;
}

/* "xts-plain64" or "cbc-essiv:sha256" -> mode, IV generator, its hash. */
static int split_mode(const QcDiskLuksHeader *h, QcLuks *luks)
{
    char mode[sizeof(h->cipher_mode) + 1];
    get_text(mode, h->cipher_mode, sizeof(h->cipher_mode));
    char *ivgen = cut_at(mode, '-');
    if (!ivgen)
        return -EINVAL;
    char *ivgen_hash = cut_at(ivgen, ':');
    g_strlcpy(luks->cipher_mode, mode, sizeof(luks->cipher_mode));
    g_strlcpy(luks->ivgen_alg, ivgen, sizeof(luks->ivgen_alg));
    g_strlcpy(luks->ivgen_hash_alg, ivgen_hash ? ivgen_hash : "", sizeof(luks->ivgen_hash_alg));
    return 0;
}

/* QEMU names a cipher with the length of its key; XTS uses two keys. */
static void name_cipher(const QcDiskLuksHeader *h, QcLuks *luks)
{
    char cipher[sizeof(h->cipher_name) + 1];
    uint64_t bits = (uint64_t)be32_get(h->key_bytes) * 8;
    if (strcmp(luks->cipher_mode, "xts") == 0)
        bits /= 2;
    get_text(cipher, h->cipher_name, sizeof(h->cipher_name));
    if (strcmp(cipher, "cast5") == 0)
        bits = 128;
    g_snprintf(luks->cipher_alg, sizeof(luks->cipher_alg), "%s-%" G_GUINT64_FORMAT, cipher, bits);
}

static QcLuksSlot decode_slot(const QcDiskLuksSlot *s)
{
    return (QcLuksSlot){
        .active = be32_get(s->active) == QC_LUKS_SLOT_ACTIVE,
        .iters = be32_get(s->iterations),
        .key_offset = (uint64_t)be32_get(s->key_material_offset) * QC_SECTOR,
        .stripes = be32_get(s->stripes),
    };
}

int qc_luks_decode(const void *bytes, size_t len, QcLuks *ret)
{
    QcDiskLuksHeader h;
    QcLuks luks = {0};
    if (len < sizeof(h))
        return -EINVAL;
    memcpy(&h, bytes, sizeof(h));
    if (memcmp(h.magic, magic, sizeof(magic)) != 0 || be16_get(h.version) != 1)
        return -EINVAL;
    int err = split_mode(&h, &luks);
    if (err < 0)
        return err;
    name_cipher(&h, &luks);
    get_text(luks.hash_alg, h.hash_spec, sizeof(h.hash_spec));
    get_text(luks.uuid, h.uuid, sizeof(h.uuid));
    luks.payload_offset = (uint64_t)be32_get(h.payload_offset) * QC_SECTOR;
    luks.master_key_iters = be32_get(h.mk_digest_iterations);
    for (unsigned i = 0; i < QC_LUKS_SLOTS; i++)
        luks.slots[i] = decode_slot(&h.slots[i]);
    *ret = luks;
    return 0;
}
