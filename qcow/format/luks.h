/*
 * luks.h - the header of LUKS version 1, as far as it is public: names of algorithms and the key
 * slots. Pure, no I/O. LUKS On-Disk Format Specification 1.2.3. The engine itself has no use for
 * it: info.json tells what QEMU tells.
 */
#ifndef QCOW_LUKS_H
#define QCOW_LUKS_H

#include "be.h"
#include "qcow.h"

/* Key slot. Offsets are counted in sectors. */
typedef struct QcDiskLuksSlot {
    be32 active, iterations;
    uint8_t salt[32];
    be32 key_material_offset, stripes;
} QcDiskLuksSlot;
G_STATIC_ASSERT(sizeof(QcDiskLuksSlot) == 48);

#define QC_LUKS_SLOT_ACTIVE 0x00ac71f3u

/* The partition header. Texts end with a NUL only when they are shorter than their field. */
typedef struct QcDiskLuksHeader {
    uint8_t magic[6];
    be16 version;
    char cipher_name[32], cipher_mode[32], hash_spec[32];
    be32 payload_offset, key_bytes;
    uint8_t mk_digest[20], mk_digest_salt[32];
    be32 mk_digest_iterations;
    char uuid[40];
    QcDiskLuksSlot slots[QC_LUKS_SLOTS];
} QcDiskLuksHeader;

G_STATIC_ASSERT(offsetof(QcDiskLuksHeader, cipher_name) == 8);
G_STATIC_ASSERT(offsetof(QcDiskLuksHeader, payload_offset) == 104);
G_STATIC_ASSERT(offsetof(QcDiskLuksHeader, mk_digest_iterations) == 164);
G_STATIC_ASSERT(offsetof(QcDiskLuksHeader, uuid) == 168);
G_STATIC_ASSERT(offsetof(QcDiskLuksHeader, slots) == 208);
G_STATIC_ASSERT(sizeof(QcDiskLuksHeader) == 592);

/* Decode len bytes. -EINVAL when they are no such header. */
int qc_luks_decode(const void *bytes, size_t len, QcLuks *ret);

#endif
