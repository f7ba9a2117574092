/*
 * luks.h - the header of LUKS version 1 (On-Disk Format Specification 1.2.3), as far as it is
 * public: names of algorithms and the key slots, no key material. Pure. It is here because
 * the engine has no use for it: it only passes through to info.json.
 */
#ifndef SNAPTREE_LUKS_H
#define SNAPTREE_LUKS_H

#include <stdbool.h>
#include <stdint.h>

#define LUKS_HEADER_BYTES 592u
#define LUKS_SLOTS        8u

typedef struct LuksSlot {
    bool active;
    uint32_t iters, stripes;
    uint64_t key_offset; /* bytes */
} LuksSlot;

/* Names are QEMU's. */
typedef struct LuksInfo {
    char cipher_alg[33];
    char cipher_mode[33];
    char ivgen_alg[33];
    const char *ivgen_hash_alg; /* NULL unless the IV generator has one; points into itself */
    char hash_alg[33];
    char uuid[41];
    char ivgen_hash[33];
    uint64_t payload_offset; /* bytes */
    uint32_t master_key_iters;
    LuksSlot slots[LUKS_SLOTS];
} LuksInfo;

/* False when the bytes are no such header. */
bool luks_parse(const unsigned char header[LUKS_HEADER_BYTES], LuksInfo *ret);

#endif
