/* area.c - see area.h. A block is an array of runs, without gaps, in the order of their starts. */
#include "area.h"
#include <string.h>

typedef struct Run {
    uint64_t start;
    QcExtent extent;
} Run;

int qc_area_build(const QcBlockKey *key, uint64_t length, QcAreaMap map, void *data, QcBlock **ret)
{
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(Run));
    for (uint64_t done = 0; done < length;) {
        Run run = {.start = key->offset + done};
        int err = map(data, run.start, length - done, &run.extent);
        if (err < 0)
            return err;
        g_array_append_val(runs, run);
        done += run.extent.length;
    }
    size_t size = runs->len * sizeof(Run);
    QcBlock *block = qc_block_new(key, size);
    if (!block)
        return -ENOMEM;
    memcpy(block->data, runs->data, size);
    *ret = block;
    return 0;
}

void qc_area_find(const QcBlock *area, uint64_t offset, uint64_t length, QcExtent *ret)
{
    const Run *runs = (const Run *)(const void *)area->data;
    size_t first = 0, last = area->size / sizeof(Run) - 1;
    while (first < last) { /* the last run that does not start behind offset */
        size_t middle = (first + last + 1) / 2;
        if (runs[middle].start <= offset)
            first = middle;
        else
            last = middle - 1;
    }
    uint64_t skipped = offset - runs[first].start;
    *ret = runs[first].extent;
    if (ret->kind == QC_EXTENT_DATA)
        ret->host_offset += skipped;
    if (ret->kind == QC_EXTENT_COMPRESSED)
        ret->skip += skipped;
    ret->length = MIN(ret->length - skipped, length);
}
