/*
 * Fuzz target: opening and reading a whole image. The input is the file. Every disk in it is
 * mapped, read and searched at a bounded number of places; the three have to agree.
 */
#include "disks.h"
#include "fuzz.h"
#include "shape.h"
#include "view.h"
#include <errno.h>

static void check_strings(const QcInfo *info)
{
    fuzz_require(info->cluster_bits >= 9 && info->cluster_bits <= 21);
    fuzz_require(info->compression != NULL);
    for (unsigned i = 0; i < info->n_snapshots; i++) {
        const QcSnapshot *s = &info->snapshots[i];
        fuzz_require(s->name[s->name_len] == '\0' && s->id);
        fuzz_require(s->disk_size <= QC_MAX_DISK_SIZE);
    }
    for (unsigned i = 0; i < info->n_bitmaps; i++)
        fuzz_require(info->bitmaps[i].name && info->bitmaps[i].granularity);
}

static bool is_hole(const QcExtent *e)
{
    return e->kind == QC_EXTENT_HOLE || e->kind == QC_EXTENT_ZERO;
}

static void check_extent(const QcInfo *info, const QcExtent *e)
{
    uint64_t cluster = UINT64_C(1) << info->cluster_bits;
    bool raw = e->image && qc_image_info(e->image)->format == QC_FORMAT_RAW;
    if (e->kind == QC_EXTENT_DATA)
        fuzz_require((raw || e->host_offset > 0) && e->host_offset < info->stat.size + cluster);
    if (e->kind == QC_EXTENT_COMPRESSED) {
        fuzz_require(e->skip + e->length <= cluster && e->host_length > 0);
        fuzz_require(e->host_offset < info->stat.size);
    }
    fuzz_require((e->kind == QC_EXTENT_BAD) == (e->error < 0));
}

/* Reading fails exactly where the map says so, or where a compressed cluster is broken. */
static void check_read(QcView *view, uint64_t at, const QcExtent *e)
{
    uint8_t buf[512];
    size_t len = (size_t)MIN(sizeof(buf), e->length);
    ssize_t n = qc_view_read(view, buf, len, at);
    if (e->kind == QC_EXTENT_BAD)
        fuzz_require(n == -EIO);
    else if (e->kind != QC_EXTENT_COMPRESSED)
        fuzz_require(n == (ssize_t)len, "%zd", n);
    for (ssize_t i = 0; is_hole(e) && i < n; i++)
        fuzz_require(buf[i] == 0);
}

static void check_seek(QcView *view, uint64_t at, const QcExtent *e)
{
    int64_t here = qc_view_seek(view, at, is_hole(e));
    int64_t other = qc_view_seek(view, at, !is_hole(e));
    fuzz_require(here == (int64_t)at, "%ld instead of %ld", (long)here, (long)at);
    if (other == -ENXIO)
        fuzz_require(is_hole(e), "every file ends in a hole");
    else
        fuzz_require(other >= (int64_t)(at + e->length) && other <= (int64_t)qc_view_size(view));
}

static void check_view(const QcInfo *info, QcView *view)
{
    uint64_t size = qc_view_size(view), at = 0;
    for (unsigned i = 0; i < DISKS_MAX_EXTENTS && at < size; i++) {
        QcExtent e;
        fuzz_require(qc_view_map(view, at, size - at, &e) == 0);
        check_extent(info, &e);
        check_read(view, at, &e);
        if (i < 4)
            check_seek(view, at, &e);
        at += e.length;
    }
    fuzz_require(qc_view_seek(view, size, false) == -ENXIO);
    uint8_t byte;
    fuzz_require(qc_view_read(view, &byte, 1, size) == 0);
}

/* The active disk over a raw one: the file itself. What it does not have, that one has. */
static void check_layers(MemFile *file, const Disks *disks)
{
    g_autoptr(QcImage) raw = NULL;
    int err = qc_image_open(mem_file(file), "raw", QC_FORMAT_RAW, disks->cache, &raw, NULL);
    fuzz_require(err == 0, "%d", err);
    if (qc_image_unsupported(disks->image))
        return;
    g_autoptr(QcView) view = qc_view_new_active(disks->image, qc_view_new_raw(raw));
    check_view(qc_image_info(disks->image), view);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    MemFile *file = mem_file_new(data, size);
    file->sparse = size % 2;
    g_autoptr(Disks) disks = disks_open(file);
    if (disks) {
        const QcInfo *info = qc_image_info(disks->image);
        check_strings(info);
        check_layers(file, disks);
        for (guint i = 0; i < disks->list->len; i++) {
            g_autoptr(QcView) view = disks_view(disks, i);
            check_view(info, view);
            fuzz_require(qc_view_check(view) == 0);
            file->mtime++; /* as if something else in the file had changed */
            if (i > 0)
                fuzz_require(qc_view_check(view) == 0, "snapshot %u is still there", i - 1);
            file->mtime--;
        }
    }
    qc_file_unref(mem_file(file));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return shape_mutate(data, size, max_size, seed);
}
