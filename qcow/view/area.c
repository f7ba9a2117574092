/*
 * area.c - see area.h.
 *
 * What is cached is an Area: runs, without gaps, in the order of their starts, and behind them the
 * number of its run for each grain, so that a look-up touches two places of it however many there
 * are.
 */
#include "area.h"
#include "extent.h"
#include <errno.h>
#include <string.h>

typedef struct Run {
    uint64_t start;
    QcExtent extent;
} Run;

typedef struct Area {
    uint64_t start;
    unsigned grain_bits;
    unsigned n; /* of the runs */
    Run runs[]; /* and behind them: uint16_t, of each grain */
} Area;

G_STATIC_ASSERT(QC_AREA_GRAINS <= G_MAXUINT16);

static uint16_t *numbers_of(Area *area)
{
    return (uint16_t *)(void *)&area->runs[area->n];
}

/* Make e what it says from skipped bytes on, for length bytes. */
static void trim(QcExtent *e, uint64_t skipped, uint64_t length)
{
    if (e->kind == QC_EXTENT_DATA)
        e->host_offset += skipped;
    if (e->kind == QC_EXTENT_COMPRESSED)
        e->skip += skipped;
    e->length = length;
}

int qc_area_begin(QcAreaBuilder *builder, uint64_t start, uint64_t length, unsigned grain_bits)
{
    uint64_t grain = UINT64_C(1) << grain_bits;
    *builder = (QcAreaBuilder){.start = start, .grain_bits = grain_bits, .length = length};
    builder->n = builder->last = (unsigned)((length + grain - 1) >> grain_bits);
    builder->grains = g_try_new0(QcExtent, builder->n);
    return builder->grains ? 0 : -ENOMEM;
}

void qc_area_clear(QcAreaBuilder *builder)
{
    g_clear_pointer(&builder->grains, g_free);
}

static bool is_gap(const QcAreaBuilder *builder, unsigned i)
{
    return builder->grains[i].kind == QC_EXTENT_HOLE;
}

/* The offset, from the start of the area, where a grain begins. */
static uint64_t start_of(const QcAreaBuilder *builder, unsigned i)
{
    return MIN((uint64_t)i << builder->grain_bits, builder->length);
}

bool qc_area_next_gap(QcAreaBuilder *builder, uint64_t *ret_from, uint64_t *ret_end)
{
    while (builder->first < builder->last && !is_gap(builder, builder->first))
        builder->first++;
    while (builder->first < builder->last && !is_gap(builder, builder->last - 1))
        builder->last--;
    *ret_from = builder->start + start_of(builder, builder->first);
    *ret_end = builder->start + start_of(builder, builder->last);
    return builder->first < builder->last;
}

void qc_area_offer(QcAreaBuilder *builder, uint64_t offset, const QcExtent *extent)
{
    uint64_t from = offset - builder->start, end = from + extent->length;
    if (extent->kind == QC_EXTENT_HOLE)
        return;
    for (unsigned i = (unsigned)(from >> builder->grain_bits); start_of(builder, i) < end; i++) {
        uint64_t start = start_of(builder, i);
        if (!is_gap(builder, i))
            continue;
        builder->grains[i] = *extent;
        trim(&builder->grains[i], start - from, start_of(builder, i + 1) - start);
    }
}

QcCached *qc_area_end(QcAreaBuilder *builder, const QcCachedKey *key)
{
    g_autofree Run *runs = g_try_new(Run, builder->n);
    g_autofree uint16_t *numbers = g_try_new(uint16_t, builder->n);
    unsigned n = 0;
    if (!runs || !numbers)
        return NULL;
    for (unsigned i = 0; i < builder->n; i++) {
        uint64_t start = start_of(builder, i);
        QcExtent *grain = &builder->grains[i];
        grain->length = start_of(builder, i + 1) - start;
        if (n == 0 || !qc_extent_coalesce(&runs[n - 1].extent, grain))
            runs[n++] = (Run){builder->start + start, *grain};
        numbers[i] = (uint16_t)(n - 1);
    }
    size_t runs_bytes = n * sizeof(*runs), numbers_bytes = builder->n * sizeof(*numbers);
    QcCached *cached = qc_cached_new(key, sizeof(Area) + runs_bytes + numbers_bytes);
    if (!cached)
        return NULL;
    Area *area = (Area *)(void *)cached->data;
    *area = (Area){.start = builder->start, .grain_bits = builder->grain_bits, .n = n};
    memcpy(area->runs, runs, runs_bytes);
    memcpy(numbers_of(area), numbers, numbers_bytes);
    return cached;
}

void qc_area_find(QcCached *cached, uint64_t offset, uint64_t length, QcExtent *ret)
{
    Area *area = (Area *)(void *)cached->data;
    const Run *run = &area->runs[numbers_of(area)[(offset - area->start) >> area->grain_bits]];
    uint64_t skipped = offset - run->start;
    *ret = run->extent;
    trim(ret, skipped, MIN(ret->length - skipped, length));
}
