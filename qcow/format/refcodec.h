/*
 * refcodec.h - counts inside a refcount block. Pure, no I/O. §"Refcount block entries".
 *
 * Widths under a byte are packed from the low bits on; wider ones are big-endian.
 */
#ifndef QCOW_REFCODEC_H
#define QCOW_REFCODEC_H

#include "be.h"
#include <string.h>

/* The largest count of a width of 2^order bits. */
static inline uint64_t qc_refcount_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1;
}

static inline uint64_t qc_refcount_get(const uint8_t *block, unsigned order, uint64_t index)
{
    const uint8_t *at = block + (index << order) / 8;
    be16 v16;
    be32 v32;
    switch (order) {
    case 3:
        return *at;
    case 4:
        memcpy(&v16, at, sizeof(v16));
        return be16_get(v16);
    case 5:
        memcpy(&v32, at, sizeof(v32));
        return be32_get(v32);
    case 6:
        return be64_load(at);
    default: /* 1, 2 or 4 bits */
        return *at >> ((index << order) % 8) & qc_refcount_max(order);
    }
}

static inline void qc_refcount_set(uint8_t *block, unsigned order, uint64_t index, uint64_t value)
{
    uint8_t *at = block + (index << order) / 8;
    be16 v16 = be16_make((uint16_t)value);
    be32 v32 = be32_make((uint32_t)value);
    unsigned shift = (unsigned)((index << order) % 8);
    switch (order) {
    case 3:
        *at = (uint8_t)value;
        break;
    case 4:
        memcpy(at, &v16, sizeof(v16));
        break;
    case 5:
        memcpy(at, &v32, sizeof(v32));
        break;
    case 6:
        be64_store(at, value);
        break;
    default:
        *at = (uint8_t)((*at & ~(qc_refcount_max(order) << shift)) | value << shift);
    }
}

#endif
