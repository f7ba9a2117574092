/* disks.c - see disks.h. */
#include "disks.h"
#include "fuzz.h"

static uint64_t digest(const void *bytes, size_t len)
{
    const uint8_t *b = bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return h;
}

static Probe probe_at(QcView *view, uint64_t offset)
{
    uint8_t buf[DISKS_PROBE];
    Probe p = {.offset = offset};
    p.len = qc_view_read(view, buf, sizeof(buf), offset);
    fuzz_require(p.len <= (ssize_t)sizeof(buf));
    fuzz_require(p.len < 0 || p.len == (ssize_t)MIN(sizeof(buf), qc_view_size(view) - offset));
    if (p.len > 0)
        p.digest = digest(buf, (size_t)p.len);
    return p;
}

static void add_probe(Disk *disk, QcView *view, uint64_t offset)
{
    Probe p = probe_at(view, offset);
    g_array_append_val(disk->probes, p);
}

static Disk *look_at(QcView *view, const void *name, size_t name_len)
{
    Disk *disk = g_new0(Disk, 1);
    disk->size = qc_view_size(view);
    disk->name = g_byte_array_new();
    if (name_len > 0)
        g_byte_array_append(disk->name, name, (guint)name_len);
    disk->probes = g_array_new(FALSE, FALSE, sizeof(Probe));
    uint64_t at = 0;
    for (unsigned i = 0; i < DISKS_MAX_EXTENTS && at < disk->size; i++) {
        QcExtent e;
        int err = qc_view_map(view, at, disk->size - at, &e);
        fuzz_require(err == 0, "%d", err); /* nothing fails in memory */
        fuzz_require(e.length > 0 && e.length <= disk->size - at);
        add_probe(disk, view, at);
        at += e.length;
        add_probe(disk, view, at - MIN(at, DISKS_PROBE / 2));
    }
    return disk;
}

static void disk_free(gpointer p)
{
    Disk *disk = p;
    g_byte_array_unref(disk->name);
    g_array_unref(disk->probes);
    g_free(disk);
}

QcView *disks_view(const Disks *disks, unsigned i)
{
    QcView *view = NULL;
    if (i == 0)
        return qc_view_ref(qc_chain_view(disks->chain, 0));
    fuzz_require(qc_chain_snapshot_view(disks->chain, i - 1, &view) == 0);
    return view;
}

Disks *disks_open(MemFile *file)
{
    g_autoptr(GError) error = NULL;
    Disks *d = g_new0(Disks, 1);
    d->cache = qc_cache_new(1 << 20);
    d->list = g_ptr_array_new_with_free_func(disk_free);
    int err = qc_image_open(mem_file(file), "fuzz", QC_FORMAT_QCOW2, d->cache, &d->image, &error);
    fuzz_check_error(err, error);
    if (err < 0) {
        disks_free(d);
        return NULL;
    }
    fuzz_require(qc_chain_open(NULL, d->image, d->cache, &d->chain) == 0);
    const QcInfo *info = qc_image_info(d->image);
    for (unsigned i = 0; i <= MIN(info->n_snapshots, DISKS_MAX_SNAPSHOTS); i++) {
        g_autoptr(QcView) view = disks_view(d, i);
        const QcSnapshot *s = i > 0 ? &info->snapshots[i - 1] : NULL;
        g_ptr_array_add(d->list, look_at(view, s ? s->name : NULL, s ? s->name_len : 0));
    }
    return d;
}

void disks_free(Disks *d)
{
    if (!d)
        return;
    g_ptr_array_unref(d->list);
    qc_chain_free(d->chain);
    qc_image_unref(d->image);
    qc_cache_unref(d->cache);
    g_free(d);
}

void disks_require_same(const Disk *then, QcView *now, uint64_t skip, uint64_t skip_end)
{
    fuzz_require(then->size == qc_view_size(now), "the size changed");
    for (guint i = 0; i < then->probes->len; i++) {
        const Probe *p = &g_array_index(then->probes, Probe, i);
        if (p->len < 0 || (p->offset < skip_end && p->offset + DISKS_PROBE > skip))
            continue;
        Probe q = probe_at(now, p->offset);
        fuzz_require(q.len == p->len, "at %#lx: %zd bytes, then %zd", (long)p->offset, q.len,
                     p->len);
        fuzz_require(q.digest == p->digest, "at %#lx: other bytes", (long)p->offset);
    }
}
