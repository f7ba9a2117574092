/*
 * snaptable.h - entries of the snapshot table: bytes to struct and back. Pure, no I/O.
 * §"Snapshots".
 */
#ifndef QCOW_SNAPTABLE_H
#define QCOW_SNAPTABLE_H

#include "format.h"
#include "qcow.h"

/*
 * Decode the entry at the start of buf. ret's strings point into buf and are *not*
 * terminated; id_len comes back separately. ret_size: bytes of the entry with its padding.
 * disk_size is fallback where the entry does not say. -ENODATA: buf ends before the entry
 * does, and *ret_size is how much is needed at least. -EUCLEAN: not valid.
 */
int qc_snaptable_decode(const QcLayout *layout, uint64_t fallback_size, const uint8_t *buf,
                        size_t len, QcSnapshot *ret, size_t *ret_id_len, size_t *ret_size);

/* Whether an entry lacks what version 3 asks for: the size of its disk. */
static inline bool qc_snapshot_is_incomplete(const QcLayout *layout, const QcSnapshot *snapshot)
{
    return layout->version >= 3 && !snapshot->size_stated;
}

/* Bytes of the entry that qc_snaptable_encode() makes. */
size_t qc_snaptable_encoded_size(size_t id_len, size_t name_len);

/* Write a new entry (without what an old one may carry as unknown extra data) to buf. */
void qc_snaptable_encode(const QcSnapshot *snapshot, size_t id_len, uint8_t *buf);

/*
 * Copy an encoded entry with another name. Everything else, unknown extra data included, stays.
 * buf has room for the entry and name_len + 8 bytes more. Returns the bytes written.
 */
size_t qc_snaptable_rename(const uint8_t *entry, const char *name, size_t name_len, uint8_t *buf);

#endif
