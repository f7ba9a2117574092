/*
 * view.c - everything readable.
 *
 * A view is a mapping table, a virtual size, and optionally a view beneath that supplies what
 * the table does not have. map_layer() tells one layer; map_chain() descends, without recursion,
 * until a layer has something to say: for qc_view_map(), for seeking, and for reading without an
 * area. A view of several layers is read by areas (area.h), so that a look-up costs the same
 * however many layers there are: build_area() asks each layer once. An area goes to the cache only
 * after all layers were checked: from then on none of their tables is looked at for it.
 *
 * Views do not change, apart from the hint where to find a snapshot's table entry (under
 * hint_lock, which is held while the entry is looked for in the file); the time when all layers
 * were last seen to be what they were, or that one was not; when what is known of a device was last
 * forgotten; what one thread prepares; and the list of layers, made when it is first needed.
 */
#include "view.h"
#include "area.h"
#include "extent.h"
#include "map.h"
#include "staleness.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

typedef enum ViewKind {
    VIEW_QCOW2,
    VIEW_RAW,
    VIEW_BROKEN,
} ViewKind;

enum {
    WORK_LAYER = 16,    /* to ask one layer at all */
    MIN_GRAIN_BITS = 9, /* smaller areas are not worth it */
};

/* A view and those beneath it that have a file, for finding one by its number. */
typedef struct Layers {
    unsigned n;
    QcView *views[]; /* borrowed: the view itself holds them */
} Layers;

struct QcView {
    gatomicrefcount refs;
    ViewKind kind;
    QcImage *image;
    QcView *beneath;
    uint64_t size;
    int error; /* VIEW_BROKEN */

    bool telling;               /* the stat of every layer's file tells when it changes */
    unsigned grain_bits;        /* see grain_bits() */
    uint64_t owner;             /* key of the areas in the cache; 0: none are kept */
    _Atomic int64_t checked_at; /* monotonic, microseconds: all layers were right; 0: never */
    _Atomic bool stale;         /* some layer was not; nothing is taken on trust any more */
    _Atomic bool preparing;     /* a thread is in qc_view_prepare() */
    uint64_t prepared;          /* by that thread: an offset in the area that it looked up last */
    Layers *_Atomic layers;     /* made on first use, then never changed */

    /* VIEW_QCOW2 */
    uint64_t l1_offset;
    uint32_t l1_entries;
    bool is_snapshot;
    unsigned snapshot;
    GMutex hint_lock;
    QcSnapshotHint hint;
    _Atomic int64_t refreshed_at; /* of a device: monotonic, microseconds */
};

/*
 * log2 of the largest piece size, 2 MiB at most, such that no layer changes its answer within a
 * piece: in a view of this kind on top of that one. (Where a view beneath ends, its answer changes;
 * where the view itself ends, there is nothing more.)
 */
static unsigned grain_bits(ViewKind kind, const QcImage *image, const QcView *beneath)
{
    unsigned bits = QC_MAX_CLUSTER_BITS;
    if (kind == VIEW_QCOW2) {
        const QcLayout *l = &image->header.layout;
        bits = l->extended_l2 ? l->cluster_bits - QC_SUBCLUSTER_BITS : l->cluster_bits;
    }
    if (!beneath)
        return bits;
    bits = MIN(bits, beneath->grain_bits);
    bool endless = beneath->kind == VIEW_BROKEN && beneath->size == UINT64_MAX;
    while (!endless && beneath->size & ((UINT64_C(1) << bits) - 1))
        bits--;
    return bits;
}

static QcView *view_new(ViewKind kind, QcImage *image, uint64_t size, QcView *beneath)
{
    QcView *view = g_try_new0(QcView, 1);
    if (!view) {
        qc_view_unref(beneath);
        return NULL;
    }
    g_atomic_ref_count_init(&view->refs);
    g_mutex_init(&view->hint_lock);
    view->kind = kind;
    view->image = image ? qc_image_ref(image) : NULL;
    view->size = size;
    view->beneath = beneath;
    view->telling = (!image || image->cacheable) && (!beneath || beneath->telling);
    view->grain_bits = grain_bits(kind, image, beneath);
    if (beneath && image && view->telling && view->grain_bits >= MIN_GRAIN_BITS)
        view->owner = qc_cache_new_owner(image->cache);
    return view;
}

QcView *qc_view_new_active(QcImage *image, QcView *beneath)
{
    QcView *view = view_new(VIEW_QCOW2, image, image->info.virtual_size, beneath);
    if (!view)
        return NULL;
    view->l1_offset = image->header.l1_offset;
    view->l1_entries = image->header.l1_entries;
    return view;
}

QcView *qc_view_new_snapshot(QcImage *image, unsigned snapshot, QcView *beneath)
{
    const QcSnapshot *s = &image->info.snapshots[snapshot];
    QcView *view = view_new(VIEW_QCOW2, image, s->disk_size, beneath);
    if (!view)
        return NULL;
    view->l1_offset = s->l1_offset;
    view->l1_entries = s->l1_entries;
    view->is_snapshot = true;
    view->snapshot = snapshot;
    return view;
}

QcView *qc_view_new_raw(QcImage *image)
{
    return view_new(VIEW_RAW, image, image->info.virtual_size, NULL);
}

QcView *qc_view_new_broken(QcImage *image, uint64_t size, int error)
{
    QcView *view = view_new(VIEW_BROKEN, image, size, NULL);
    if (view)
        view->error = error;
    return view;
}

QcView *qc_view_ref(QcView *view)
{
    g_atomic_ref_count_inc(&view->refs);
    return view;
}

/* Not recursive: a chain of views may be long. */
void qc_view_unref(QcView *view)
{
    while (view && g_atomic_ref_count_dec(&view->refs)) {
        QcView *beneath = view->beneath;
        qc_image_unref(view->image);
        g_mutex_clear(&view->hint_lock);
        g_free(atomic_load(&view->layers));
        g_free(view);
        view = beneath;
    }
}

uint64_t qc_view_size(const QcView *view)
{
    return view->size;
}

/* ---- all layers ------------------------------------------------------------------------- */

static int map_layer(QcView *view, uint64_t offset, uint64_t length, QcLook *look, QcExtent *ret)
{
    look->work += WORK_LAYER;
    switch (view->kind) {
    case VIEW_QCOW2: {
        QcMapping map = {view->image, view->l1_offset, view->l1_entries};
        return qc_map_qcow2(&map, offset, length, look, ret);
    }
    case VIEW_RAW:
        return qc_map_raw(view->image, offset, length, look, ret);
    case VIEW_BROKEN:
    default:
        *ret = qc_extent_bad(view->error, length);
        return 0;
    }
}

static int map_chain(QcView *view, uint64_t offset, uint64_t length, QcLook *look, QcExtent *ret)
{
    unsigned layer = 0;
    for (QcView *v = view; v && offset < v->size; v = v->beneath) {
        QcExtent e;
        int err = map_layer(v, offset, MIN(length, v->size - offset), look, &e);
        if (err < 0)
            return err;
        e.layer = layer++;
        if (e.kind != QC_EXTENT_HOLE) {
            *ret = e;
            return 0;
        }
        length = e.length;
    }
    *ret = qc_extent_of(QC_EXTENT_HOLE, length);
    return 0;
}

int qc_view_map(QcView *view, uint64_t offset, uint64_t length, QcExtent *ret)
{
    g_auto(QcLook) look = {.exact = true};
    return map_chain(view, offset, length, &look, ret);
}

/* ---- remembered areas ------------------------------------------------------------------- */

/* Offer what one layer alone has in a range. */
static int offer_layer(QcAreaBuilder *builder, QcView *view, unsigned layer, uint64_t from,
                       uint64_t end, QcLook *look)
{
    uint64_t own_end = MIN(end, view->size);
    for (uint64_t at = from; at < own_end;) {
        QcExtent e;
        int err = map_layer(view, at, own_end - at, look, &e);
        if (err < 0)
            return err;
        e.layer = layer;
        qc_area_offer(builder, at, &e);
        at += e.length;
    }
    if (own_end < end) { /* where a layer ends, those beneath have nothing to say */
        QcExtent rest = qc_extent_of(QC_EXTENT_ZERO, end - MAX(from, own_end));
        rest.layer = layer;
        qc_area_offer(builder, MAX(from, own_end), &rest);
    }
    return 0;
}

static int build_area(QcView *view, const QcCachedKey *key, uint64_t length, QcCached **ret)
{
    g_auto(QcAreaBuilder) builder = {0};
    g_auto(QcLook) look = {.remembered = (uint64_t)QC_AREA_GRAINS << view->grain_bits};
    uint64_t from, end;
    unsigned layer = 0;
    int err = qc_area_begin(&builder, key->offset, length, view->grain_bits);
    for (QcView *v = view; v && !err && qc_area_next_gap(&builder, &from, &end); v = v->beneath)
        err = offer_layer(&builder, v, layer++, from, end, &look);
    if (err < 0)
        return err;
    g_autoptr(QcCached) area = qc_area_end(&builder, key);
    if (!area)
        return -ENOMEM;
    if (qc_view_check(view) == 0)
        qc_cache_add(view->image->cache, area);
    *ret = g_steal_pointer(&area);
    return 0;
}

void qc_place_clear(QcPlace *place)
{
    qc_cached_unref(place->area);
    *place = (QcPlace){0};
}

/* Go to the area of an offset. One that cannot be built is no error: much in it may be readable. */
static int go_to(QcView *view, uint64_t offset, QcPlace *place)
{
    uint64_t size = (uint64_t)QC_AREA_GRAINS << view->grain_bits;
    QcCachedKey key = {view->owner, offset / size * size, QC_CACHED_AREA};
    qc_place_clear(place);
    place->start = key.offset;
    place->end = key.offset + MIN(size, view->size - key.offset);
    place->area = qc_cache_find(view->image->cache, &key);
    int err = place->area ? 0 : build_area(view, &key, place->end - place->start, &place->area);
    return err == -ENOMEM ? err : 0;
}

/* Whether a check of what is read soon would have to look at all layers itself. */
static bool is_due(const QcView *view)
{
    int64_t checked_at = atomic_load(&view->checked_at);
    return checked_at && g_get_monotonic_time() - checked_at > QC_RECHECK_US * 3 / 4;
}

void qc_view_prepare(QcView *view, uint64_t offset)
{
    uint64_t size = (uint64_t)QC_AREA_GRAINS << view->grain_bits, next = offset + size;
    if (!view->owner || atomic_load(&view->stale) || atomic_exchange(&view->preparing, true))
        return;
    if (is_due(view))
        qc_view_check(view);
    if (next < view->size && next / size != view->prepared / size) {
        g_auto(QcPlace) place = {0};
        go_to(view, next, &place);
        view->prepared = next;
    }
    atomic_store(&view->preparing, false);
}

int qc_view_map_to_read(QcView *view, uint64_t offset, uint64_t length, QcPlace *place,
                        QcExtent *ret)
{
    g_auto(QcLook) look = {.exact = false};
    bool elsewhere = offset < place->start || offset >= place->end;
    int err = view->owner && elsewhere ? go_to(view, offset, place) : 0;
    if (err < 0)
        return err;
    if (!place->area)
        return map_chain(view, offset, length, &look, ret);
    qc_area_find(place->area, offset, length, ret);
    return 0;
}

/* ---- seeking ----------------------------------------------------------------------------- */

int64_t qc_view_seek(QcView *view, uint64_t offset, bool hole)
{
    g_auto(QcLook) look = {.exact = true};
    while (offset < view->size) {
        if (look.work > QC_MAX_WORK) /* to call the rest data is true enough: it can be read */
            return (int64_t)(hole ? view->size : offset);
        QcExtent e;
        int err = map_chain(view, offset, view->size - offset, &look, &e);
        if (err < 0)
            return err;
        if (qc_extent_is_zeros(&e) == hole)
            return (int64_t)offset;
        offset += e.length;
        if (hole && offset == view->size)
            return (int64_t)offset; /* every file ends in a hole */
    }
    return -ENXIO;
}

/* ---- still true? ------------------------------------------------------------------------ */

/* Another machine may write to a device: ask that, but not at each read. */
static void refresh_layer(QcView *view)
{
    if (view->image->cacheable || view->kind == VIEW_RAW)
        return;
    int64_t now = g_get_monotonic_time();
    if (now - atomic_load(&view->refreshed_at) < QC_REFRESH_US)
        return;
    atomic_store(&view->refreshed_at, now);
    g_mutex_lock(&view->hint_lock);
    qc_image_refresh(view->image, &view->hint);
    g_mutex_unlock(&view->hint_lock);
}

static int check_layer(QcView *view)
{
    refresh_layer(view);
    /* On a device an unchanged header says nothing of the snapshot table. */
    bool telling = view->image->cacheable || !view->is_snapshot;
    if (telling && qc_image_is_current(view->image))
        return 0;
    if (!view->is_snapshot)
        return -ESTALE;
    g_mutex_lock(&view->hint_lock);
    int err = qc_image_find_snapshot(view->image, view->snapshot, &view->hint);
    g_mutex_unlock(&view->hint_lock);
    return err;
}

bool qc_view_is_telling(const QcView *view)
{
    return view->telling;
}

/* The view itself, or NULL: there is no file that could change. */
static QcView *to_check(QcView *view)
{
    return view && view->image ? view : NULL;
}

static QcView *next_to_check(const QcView *view)
{
    return to_check(view->beneath);
}

static Layers *list_layers(QcView *view)
{
    unsigned n = 0;
    for (const QcView *v = view; v; v = next_to_check(v))
        n++;
    Layers *layers = g_try_malloc(sizeof(*layers) + n * sizeof(*layers->views));
    if (!layers)
        return NULL;
    layers->n = 0;
    for (QcView *v = view; v; v = next_to_check(v))
        layers->views[layers->n++] = v;
    return layers;
}

/* NULL: no memory. */
static const Layers *layers_of(QcView *view)
{
    Layers *layers = atomic_load(&view->layers), *none = NULL;
    if (layers)
        return layers;
    layers = list_layers(view);
    if (layers && !atomic_compare_exchange_strong(&view->layers, &none, layers)) {
        g_free(layers);
        layers = none;
    }
    return layers;
}

/* Check the layers whose bits are set. */
static int check_some(const Layers *layers, const uint64_t *bits)
{
    int err = 0;
    for (unsigned first = 0; first < layers->n && !err; first += 64) {
        for (uint64_t left = bits[first / 64]; left && !err; left &= left - 1) {
            unsigned i = first + (unsigned)__builtin_ctzll(left);
            err = i < layers->n ? check_layer(layers->views[i]) : 0;
        }
    }
    return err;
}

int qc_view_check(QcView *view)
{
    int64_t now = g_get_monotonic_time();
    int err = 0;
    for (QcView *v = to_check(view); v && !err; v = next_to_check(v))
        err = check_layer(v);
    if (!err)
        atomic_store(&view->checked_at, now);
    else
        atomic_store(&view->stale, true);
    return err;
}

bool qc_view_is_unchanged(QcView *view)
{
    bool same = true;
    for (QcView *v = to_check(view); v && same; v = next_to_check(v))
        same = qc_image_is_current(v->image);
    return same;
}

int qc_view_check_reading(QcView *view, const QcReading *reading)
{
    int64_t checked_at = atomic_load(&view->checked_at);
    const Layers *layers = view->owner ? layers_of(view) : NULL;
    if (!layers || layers->n <= QC_FEW_LAYERS || !checked_at || atomic_load(&view->stale) ||
        g_get_monotonic_time() - checked_at > QC_RECHECK_US)
        return qc_view_check(view);
    uint64_t bits[G_N_ELEMENTS(reading->layers)];
    memcpy(bits, reading->layers, sizeof(bits));
    bits[0] |= 1;
    return check_some(layers, bits);
}
