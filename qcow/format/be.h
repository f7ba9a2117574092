/*
 * be.h - big-endian integers as they lie on disk.
 *
 * Each is a struct of bytes, so that using one without converting it does not compile, and
 * so that structs made of them have neither padding nor alignment.
 */
#ifndef QCOW_BE_H
#define QCOW_BE_H

#include <glib.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t b[2];
} be16;
typedef struct {
    uint8_t b[4];
} be32;
typedef struct {
    uint8_t b[8];
} be64;

static inline uint16_t be16_get(be16 v)
{
    return (uint16_t)(v.b[0] << 8 | v.b[1]);
}

static inline uint32_t be32_get(be32 v)
{
    return (uint32_t)v.b[0] << 24 | (uint32_t)v.b[1] << 16 | (uint32_t)v.b[2] << 8 | v.b[3];
}

static inline uint64_t be64_get(be64 v)
{
    uint64_t x;
    memcpy(&x, v.b, sizeof(x));
    return GUINT64_FROM_BE(x);
}

static inline be16 be16_make(uint16_t x)
{
    return (be16){{(uint8_t)(x >> 8), (uint8_t)x}};
}

static inline be32 be32_make(uint32_t x)
{
    return (be32){{(uint8_t)(x >> 24), (uint8_t)(x >> 16), (uint8_t)(x >> 8), (uint8_t)x}};
}

static inline be64 be64_make(uint64_t x)
{
    be64 v;
    x = GUINT64_TO_BE(x);
    memcpy(v.b, &x, sizeof(x));
    return v;
}

/* The number that begins at an address, aligned or not. */
static inline uint64_t be64_load(const void *at)
{
    be64 v;
    memcpy(&v, at, sizeof(v));
    return be64_get(v);
}

static inline void be64_store(void *at, uint64_t x)
{
    be64 v = be64_make(x);
    memcpy(at, &v, sizeof(v));
}

#endif
