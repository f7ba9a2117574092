/*
 * image.c - opening an image and asking whether it is still the same.
 *
 * A QcImage is the metadata of one file at one moment. Others may change the file while it
 * is read, so the header is read again after the snapshot table, and everything is redone
 * when it differs. What changes later is noticed by stat - provided that the change time (ctime)
 * was not so young when it was taken that a second write could hide behind it.
 */
#include "image.h"
#include "bitmaps.h"
#include "error.h"
#include "snapread.h"
#include <string.h>
#include <sys/stat.h>

enum {
    OPEN_TRIES = 50,
    OPEN_AT_ONCE = 5, /* of these; then there are pauses, of */
    OPEN_PAUSE_US = 2 * 1000,
    FIRST_READ = 4096,             /* holds the header of nearly every image */
    CTIME_GRAIN_NS = 20 * 1000000, /* no Linux file system's clock ticks slower than 10 ms */
    MAX_SETTLE_US = 21 * 1000,
    STRINGS_FREE = 128 << 10, /* so much of a snapshot table is taken without a look, then */
    STRINGS_STEP = 1 << 20,   /* of a snapshot table; its names never take the last of the memory */
};

/* ---- reading the header ----------------------------------------------------------------- */

/* Decode header and extensions from the first len bytes. */
static int decode_header(const uint8_t *buf, size_t len, QcHeader *ret, GError **error)
{
    int err = qc_header_decode(buf, len, ret, error);
    return err ? err : qc_header_decode_extensions(ret, buf, len, error);
}

/* The bytes of the first cluster that matter (also when they are wrong), and the header they say.
 */
static int read_header(QcFile *file, uint64_t file_size, uint8_t **ret_buf, QcHeader *ret,
                       GError **error)
{
    size_t len = (size_t)MIN(FIRST_READ, file_size);
    g_autofree uint8_t *buf = g_try_malloc0(MAX(len, sizeof(QcDiskHeader)));
    if (!buf)
        return qc_fail(error, -ENOMEM, "no memory for the header");
    int err = qc_file_read_padded(file, buf, len, 0);
    if (err < 0)
        return qc_fail(error, err, "the header cannot be read: %s", g_strerror(-err));

    err = decode_header(buf, len, ret, NULL); /* nobody is told what a second look may mend */
    uint64_t cluster = err == -ENODATA ? qc_cluster_size(&ret->layout) : 0;
    if (MIN(cluster, file_size) > len) {
        len = (size_t)MIN(cluster, file_size);
        uint8_t *grown = g_try_realloc(buf, len);
        if (!grown)
            return qc_fail(error, -ENOMEM, "no memory for the header");
        buf = grown;
        err = qc_file_read_padded(file, buf, len, 0);
        if (err < 0)
            return qc_fail(error, err, "the header cannot be read: %s", g_strerror(-err));
    }
    err = decode_header(buf, len, ret, error);
    if (err == -ENODATA) { /* the file has no more */
        err = -EINVAL;
        if (error)
            (*error)->code = EINVAL;
    }
    *ret_buf = g_steal_pointer(&buf);
    return err;
}

/* A string that lies in the header's cluster; at 0: none. */
static int keep_string_at(QcImage *image, const uint8_t *buf, uint64_t at, uint32_t len,
                          const char **ret)
{
    if (at == 0)
        return 0;
    *ret = qc_strings_keep(&image->strings, buf + at, len);
    return *ret ? 0 : -ENOMEM;
}

/* Why guest data is out of reach, or NULL. */
static const char *unsupported_feature(const QcInfo *info)
{
    if (info->encryption == QC_ENCRYPTION_AES)
        return "encrypted images (AES) are not supported";
    if (info->encryption == QC_ENCRYPTION_LUKS)
        return "encrypted images (LUKS) are not supported";
    if (info->has_data_file)
        return "external data files are not supported";
    return NULL;
}

static int fill_info(QcImage *image, const uint8_t *buf)
{
    const QcHeader *h = &image->header;
    QcInfo *info = &image->info;
    info->virtual_size = h->size;
    info->version = h->layout.version;
    info->cluster_bits = h->layout.cluster_bits;
    info->refcount_bits = 1u << h->layout.refcount_order;
    info->compression = h->compression_type == 1 ? "zstd" : "zlib";
    info->lazy_refcounts = h->compatible & QC_COMPAT_LAZY;
    info->extended_l2 = h->layout.extended_l2;
    info->dirty = h->incompatible & QC_INCOMPAT_DIRTY;
    info->corrupt = h->incompatible & QC_INCOMPAT_CORRUPT;
    info->encryption = (QcEncryption)h->crypt_method;
    info->luks_offset = h->luks_offset;
    info->luks_length = h->luks_length;
    info->has_data_file = h->incompatible & QC_INCOMPAT_DATA_FILE;
    info->data_file_raw = h->autoclear & QC_AUTOCLEAR_RAW;
    int err = keep_string_at(image, buf, h->data_file_at, h->data_file_len, &info->data_file);
    if (!err && h->backing_size > 0)
        err = keep_string_at(image, buf, h->backing_offset, h->backing_size, &info->backing_file);
    if (!err)
        err = keep_string_at(image, buf, h->backing_format_at, h->backing_format_len,
                             &info->backing_format);
    return err;
}

/* An L1 table that the file does not hold would read as an empty disk: refuse. */
static int check_against_file(const QcImage *image, GError **error)
{
    const QcHeader *h = &image->header;
    uint64_t l1_end = h->l1_offset + (uint64_t)h->l1_entries * sizeof(be64);
    if (h->l1_entries > 0 && l1_end > image->info.stat.size)
        return qc_fail(error, -EUCLEAN, "the L1 table lies past the end of the file");
    return 0;
}

/* ---- snapshots ---------------------------------------------------------------------------- */

static int read_snapshots(QcImage *image, GError **error)
{
    const QcHeader *h = &image->header;
    image->snapshots_end = h->snapshots_offset;
    if (h->n_snapshots == 0)
        return 0;
    QcSnapReader reader = {
        .file = image->file, .layout = &h->layout, .disk_size = h->size, .at = h->snapshots_offset};
    /* The file holds at least 40 bytes an entry: a lie costs no more memory than the file. */
    if (h->snapshots_offset > image->info.stat.size ||
        h->n_snapshots > (image->info.stat.size - h->snapshots_offset) / sizeof(QcDiskSnapshot))
        return qc_fail(error, -EUCLEAN, "the snapshot table lies past the end of the file");
    QcSnapshot *list = g_try_new0(QcSnapshot, h->n_snapshots);
    image->info.snapshots = list;
    image->snapshot_at = g_try_new0(uint64_t, h->n_snapshots);
    if (!list || !image->snapshot_at)
        return qc_fail(error, -ENOMEM, "no memory for %u snapshots", h->n_snapshots);

    int err = 0;
    uint64_t looked = STRINGS_FREE;
    for (uint32_t i = 0; i < h->n_snapshots && !err; i++) {
        size_t id_len, size;
        const uint8_t *raw;
        image->snapshot_at[i] = reader.at;
        err = qc_snap_reader_next(&reader, &list[i], &id_len, &raw, &size);
        if (!err && reader.consumed >= looked) {
            err = qc_room_for(2 * STRINGS_STEP) ? 0 : -ENOMEM;
            looked = reader.consumed + STRINGS_STEP;
        }
        if (err)
            break;
        list[i].id = qc_strings_keep(&image->strings, list[i].id, id_len);
        list[i].name = qc_strings_keep(&image->strings, list[i].name, list[i].name_len);
        if (!list[i].id || !list[i].name)
            err = -ENOMEM;
    }
    image->snapshots_end = reader.at;
    qc_snap_reader_clear(&reader);
    if (err < 0)
        return qc_fail(error, err, "the snapshot table cannot be read: %s", g_strerror(-err));
    image->info.n_snapshots = h->n_snapshots;
    return 0;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    return g_get_real_time() * 1000;
}

/* By ctime, which nobody can set. From a ctime in the future any later write will differ too. */
static bool is_settled(const QcFileStat *st)
{
    int64_t age = now_ns() - st->ctime;
    return age > CTIME_GRAIN_NS || age < -CTIME_GRAIN_NS;
}

int qc_file_settle(QcFile *file, QcFileStat *ret)
{
    QcFileStat st;
    int err = file->ops->stat(file, &st);
    if (!err && !is_settled(&st)) {
        g_usleep(MAX_SETTLE_US);
        err = ret ? file->ops->stat(file, &st) : 0;
    }
    if (!err && ret)
        *ret = st;
    return err;
}

static void drop_metadata(QcImage *image)
{
    g_clear_pointer((QcSnapshot **)&image->info.snapshots, g_free);
    g_clear_pointer((QcBitmap **)&image->info.bitmaps, g_free);
    g_clear_pointer(&image->snapshot_at, g_free);
    g_clear_pointer(&image->bitmap_tables, g_free);
    qc_strings_clear(&image->strings);
    QcFileStat st = image->info.stat;
    image->info = (QcInfo){.format = QC_FORMAT_QCOW2, .stat = st};
    memset(&image->header, 0, sizeof(image->header));
    memset(image->sector0, 0, sizeof(image->sector0));
}

/* 1 when the first sector is still what it was when it was read, 0 when not; negative errno. */
static int same_sector0(const QcImage *image)
{
    uint8_t now[QC_SECTOR];
    int err = qc_file_read_padded(image->file, now, sizeof(now), 0);
    return err ? err : memcmp(now, image->sector0, sizeof(now)) == 0;
}

static int read_metadata(QcImage *image, GError **error)
{
    g_autofree uint8_t *buf = NULL;
    drop_metadata(image);
    int err = read_header(image->file, image->info.stat.size, &buf, &image->header, error);
    if (buf)
        memcpy(image->sector0, buf, (size_t)MIN(QC_SECTOR, image->info.stat.size));
    if (err < 0)
        return err;
    err = fill_info(image, buf);
    if (err < 0)
        return qc_fail(error, err, "no memory for the header");
    err = check_against_file(image, error);
    if (!err)
        err = read_snapshots(image, error);
    if (!err)
        err = qc_bitmaps_read(image, error);
    return err;
}

/*
 * Read the metadata, again when the header changed meanwhile. A failure counts only when the
 * header stood still, and the file had the length that it was compared with: a table that is
 * being replaced may look like anything, and lie behind what was the end of the file.
 */
static int read_steady_metadata(QcImage *image, GError **error)
{
    for (unsigned i = 0; i < OPEN_TRIES; i++) {
        g_autoptr(GError) local = NULL;
        QcFileStat now;
        int err = read_metadata(image, &local);
        int same = same_sector0(image);
        int stat_err = image->file->ops->stat(image->file, &now);
        if (stat_err < 0)
            return qc_fail(error, stat_err, "%s", g_strerror(-stat_err));
        if (!err && same < 0)
            return qc_fail(error, same, "the header cannot be read again: %s", g_strerror(-same));
        bool steady = same != 0 && (!err || now.size == image->info.stat.size);
        if (err == -ENOMEM || steady || i == OPEN_TRIES - 1) {
            image->info.stat.size = now.size; /* of a file that grew, all that was said holds */
            if (err < 0)
                g_propagate_error(error, g_steal_pointer(&local));
            else if (!same)
                return qc_fail(error, -EAGAIN, "the image keeps changing");
            return err;
        }
        image->info.stat = now;
        image->settled = is_settled(&now);
        if (i >= OPEN_AT_ONCE) /* somebody takes and deletes snapshots without a break */
            g_usleep(OPEN_PAUSE_US);
    }
    return -EAGAIN; /* not reached */
}

int qc_image_open(QcFile *file, const char *path, QcFormat format, QcCache *cache, QcImage **ret,
                  GError **error)
{
    QcFileStat st;
    int err = file->ops->stat(file, &st);
    if (err < 0)
        return qc_fail(error, err, "%s: %s", path, g_strerror(-err));

    g_autoptr(QcImage) image = g_try_new0(QcImage, 1);
    if (!image)
        return qc_fail(error, -ENOMEM, "%s: no memory", path);
    g_atomic_ref_count_init(&image->refs);
    image->file = qc_file_ref(file);
    image->path = qc_strdup_printf("%s", path);
    if (!image->path)
        return qc_fail(error, -ENOMEM, "%s: no memory", path);
    image->cache = qc_cache_ref(cache);
    image->owner = qc_cache_new_owner(cache);
    image->cacheable = (st.mode & S_IFMT) != S_IFBLK;
    image->settled = is_settled(&st);
    image->info =
        (QcInfo){.format = format, .virtual_size = (st.size + 511) / 512 * 512, .stat = st};
    if (format == QC_FORMAT_QCOW2) {
        err = read_steady_metadata(image, error);
        if (err < 0) {
            g_prefix_error(error, "%s: ", path);
            return err;
        }
    }
    *ret = g_steal_pointer(&image);
    return 0;
}

QcImage *qc_image_ref(QcImage *image)
{
    g_atomic_ref_count_inc(&image->refs);
    return image;
}

void qc_image_unref(QcImage *image)
{
    if (!image || !g_atomic_ref_count_dec(&image->refs))
        return;
    drop_metadata(image);
    qc_file_unref(image->file);
    qc_cache_unref(image->cache);
    g_free(image->path);
    g_free(image);
}

const QcInfo *qc_image_info(const QcImage *image)
{
    return &image->info;
}

const char *qc_image_path(const QcImage *image)
{
    return image->path;
}

QcFile *qc_image_file(const QcImage *image)
{
    return image->file;
}

const char *qc_image_unsupported(const QcImage *image)
{
    return unsupported_feature(&image->info);
}

/* ---- is it still the same? -------------------------------------------------------------- */

bool qc_image_is_current(const QcImage *image)
{
    QcFileStat st;
    if (image->file->ops->stat(image->file, &st) < 0)
        return false;
    if (!image->cacheable) /* a device's stat tells nothing; but nothing was cached either */
        return st.size == image->info.stat.size &&
               (image->info.format == QC_FORMAT_RAW || same_sector0(image) == 1);
    return image->settled && qc_file_same_stat(&st, &image->info.stat);
}

bool qc_image_is_settled(const QcImage *image)
{
    return image->cacheable && image->settled;
}

/* Ids are compared up to a NUL, as b has its id. */
static bool same_snapshot(const QcSnapshot *a, size_t a_id_len, const QcSnapshot *b)
{
    size_t id_len = strnlen(a->id, a_id_len);
    return id_len == strlen(b->id) && memcmp(a->id, b->id, id_len) == 0 &&
           a->l1_offset == b->l1_offset && a->l1_entries == b->l1_entries &&
           a->disk_size == b->disk_size && a->date_sec == b->date_sec &&
           a->date_nsec == b->date_nsec;
}

/* Look for the snapshot in the n entries of the table at file offset at. */
static int search_table(const QcImage *image, const QcSnapshot *want, uint64_t at, uint32_t n,
                        uint64_t *ret_at)
{
    QcSnapReader reader = {.file = image->file,
                           .layout = &image->header.layout,
                           .disk_size = image->header.size,
                           .at = at};
    int err = n > QC_MAX_SNAPSHOTS ? -EUCLEAN : 0;
    bool found = false;
    for (uint32_t i = 0; i < n && !err && !found; i++) {
        QcSnapshot s;
        size_t id_len, size;
        const uint8_t *raw;
        uint64_t entry_at = reader.at;
        err = qc_snap_reader_next(&reader, &s, &id_len, &raw, &size);
        found = !err && same_snapshot(&s, id_len, want);
        if (found)
            *ret_at = entry_at;
    }
    qc_snap_reader_clear(&reader);
    return found ? 0 : -ESTALE;
}

/* Whether bytes that were at an offset of the file still are. */
static bool still_has(const QcImage *image, uint64_t offset, const char *bytes)
{
    char now[QC_MAX_BACKING_NAME];
    size_t len = bytes ? MIN(strlen(bytes), sizeof(now)) : 0;
    return len == 0 ||
           (qc_file_read(image->file, now, len, offset) == 0 && !memcmp(now, bytes, len));
}

/* Whether the header still names the same backing file; that its place is the same is known. */
static bool has_same_backing(const QcImage *image)
{
    const QcHeader *h = &image->header;
    return still_has(image, h->backing_offset, image->info.backing_file) &&
           still_has(image, h->backing_format_at, image->info.backing_format);
}

/* One look at header and entry, without caring whether both were read at the same moment. */
static int find_once(const QcImage *image, const QcSnapshot *want, const QcSnapshotHint *hint,
                     const uint8_t *state, uint64_t *ret_at)
{
    QcDiskHeader d = {0};
    memcpy(&d, state, QC_STATE_END);
    if (memcmp(state, image->sector0, QC_STATE_AT) != 0 || !has_same_backing(image))
        return -ESTALE; /* not even the same image */
    uint64_t at = be64_get(d.snapshots_offset);
    uint32_t n = be32_get(d.nb_snapshots);
    if (hint->entry_at && memcmp(state, hint->state, QC_STATE_END) == 0)
        if (search_table(image, want, hint->entry_at, 1, ret_at) == 0)
            return 0;
    return search_table(image, want, at, n, ret_at);
}

int qc_image_find_snapshot(const QcImage *image, unsigned snapshot, QcSnapshotHint *hint)
{
    const QcSnapshot *want = &image->info.snapshots[snapshot];
    for (unsigned i = 0; i < OPEN_TRIES; i++) {
        uint8_t state[QC_STATE_END], again[QC_STATE_END];
        uint64_t at = 0;
        int err = qc_file_read(image->file, state, sizeof(state), 0);
        if (err < 0)
            return -ESTALE;
        err = find_once(image, want, hint, state, &at);
        if (qc_file_read(image->file, again, sizeof(again), 0) < 0)
            return -ESTALE;
        if (memcmp(state, again, sizeof(state)) != 0)
            continue; /* the table was being replaced; look again */
        if (err < 0)
            return err;
        memcpy(hint->state, state, sizeof(state));
        hint->entry_at = at;
        return 0;
    }
    return -ESTALE;
}

/* ---- bytes, tables and compressed clusters ---------------------------------------------- */

int qc_image_read(const QcImage *image, void *buf, size_t len, uint64_t offset)
{
    uint64_t size = image->info.stat.size;
    size_t there = offset < size ? (size_t)MIN(len, size - offset) : 0;
    int err = there > 0 ? qc_file_read(image->file, buf, there, offset) : 0;
    memset((uint8_t *)buf + there, 0, len - there);
    return err == -ENODATA ? -EIO : err; /* cut off since: zeros would be a lie */
}

/*
 * Find a block of size bytes or more in the cache, or make an empty one for the caller to fill
 * (*ret_found false).
 */
static int get_block(const QcImage *image, QcBlockKind kind, uint64_t offset, uint64_t size,
                     QcBlock **ret, bool *ret_found)
{
    QcBlockKey key = {.owner = image->owner, .offset = offset, .kind = kind};
    QcBlock *block = image->cacheable ? qc_cache_find(image->cache, &key) : NULL;
    if (block && block->size < size) /* of a damaged image, where one table lies in another */
        g_clear_pointer(&block, qc_block_unref);
    *ret_found = block != NULL;
    if (!block)
        block = qc_block_new(&key, (size_t)size);
    if (!block)
        return -ENOMEM;
    *ret = block;
    return 0;
}

int qc_image_table_slice(const QcImage *image, uint64_t offset, uint64_t size, QcBlock **ret)
{
    g_autoptr(QcBlock) block = NULL;
    bool found;
    int err = get_block(image, QC_BLOCK_TABLE, offset, size, &block, &found);
    if (!err && !found) {
        err = qc_image_read(image, block->data, block->size, offset);
        if (!err && image->cacheable)
            qc_cache_add(image->cache, block);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&block);
    return 0;
}

void qc_look_clear(QcLook *look)
{
    qc_block_unref(look->l1);
    qc_block_unref(look->l2);
    qc_block_unref(look->page);
    *look = (QcLook){0};
}

/* Note the hole of the file that offset lies in, if it does. */
static void look_for_hole(const QcImage *image, uint64_t offset, QcLook *look)
{
    int64_t data = image->file->ops->seek(image->file, offset, false);
    look->work += QC_WORK_CALL;
    if (data == -ENXIO)
        data = INT64_MAX;
    look->hole_of = image;
    look->hole_from = offset;
    look->hole_end = data < 0 ? offset : (uint64_t)data;
}

/* Whether all of a table is zeros. The part that was read for it stays in the cache. */
static int read_blank(const QcImage *image, uint64_t offset, QcLook *look)
{
    const QcLayout *l = &image->header.layout;
    uint64_t end = offset + qc_cluster_size(l), slice = qc_table_slice(l);
    for (; offset < end; offset += slice) {
        g_autoptr(QcBlock) block = NULL;
        int err = qc_image_table_slice(image, offset, slice, &block);
        if (err < 0)
            return err;
        look->work += QC_WORK_CALL * MAX(1, slice / QC_WORK_BYTES);
        if (block->data[0] || memcmp(block->data, block->data + 1, slice - 1) != 0)
            return 0;
    }
    return 1;
}

static bool in_known_hole(const QcImage *image, uint64_t offset, const QcLook *look)
{
    uint64_t size = qc_cluster_size(&image->header.layout);
    return look->hole_of == image && offset >= look->hole_from && offset < look->hole_end &&
           look->hole_end - offset >= size;
}

int qc_image_table_is_blank(const QcImage *image, uint64_t offset, QcLook *look)
{
    uint64_t size = image->info.stat.size, cluster = qc_cluster_size(&image->header.layout);
    g_autoptr(QcBlock) block = NULL;
    bool found;
    look->work++;
    if (!image->cacheable || offset > size || size - offset < cluster)
        return 0;
    if (in_known_hole(image, offset, look))
        return 1;
    look->work += 16;
    int err = get_block(image, QC_BLOCK_BLANK, offset, 1, &block, &found);
    if (err < 0 || found)
        return err ? err : block->data[0];
    look_for_hole(image, offset, look);
    int blank = in_known_hole(image, offset, look) ? 1 : read_blank(image, offset, look);
    if (blank < 0)
        return blank;
    block->data[0] = (uint8_t)blank;
    qc_cache_add(image->cache, block);
    return blank;
}

int qc_image_inflate_to(const QcImage *image, uint64_t host_offset, uint32_t host_length, void *buf)
{
    uint64_t file_size = image->info.stat.size;
    if (host_offset >= file_size)
        return -EIO;
    size_t len = (size_t)MIN(host_length, file_size - host_offset);
    g_autofree uint8_t *in = g_try_malloc(len);
    QcInflater *inflater = qc_cache_get_inflater(image->cache);
    int err = in && inflater ? qc_image_read(image, in, len, host_offset) : -ENOMEM;
    if (!err)
        err = qc_inflate(inflater, image->header.compression_type, in, len, buf,
                         qc_cluster_size(&image->header.layout));
    if (inflater)
        qc_cache_put_inflater(image->cache, inflater);
    return err;
}

int qc_image_inflate(const QcImage *image, uint64_t host_offset, uint32_t host_length,
                     QcBlock **ret)
{
    g_autoptr(QcBlock) block = NULL;
    bool found;
    uint64_t size = qc_cluster_size(&image->header.layout);
    int err = get_block(image, QC_BLOCK_CLUSTER, host_offset, size, &block, &found);
    if (!err && !found) {
        err = qc_image_inflate_to(image, host_offset, host_length, block->data);
        if (!err && image->cacheable)
            qc_cache_add(image->cache, block);
    }
    if (err < 0)
        return err;
    *ret = g_steal_pointer(&block);
    return 0;
}
