/*
 * image.c - opening an image.
 *
 * A QcImage is the metadata of one file at one moment. Others may change the file while it
 * is read, so the header is read again after the snapshot table, and everything is redone
 * when it differs. What changes later is staleness.c's to notice.
 */
#include "image.h"
#include "bitmaps.h"
#include "error.h"
#include "luks.h"
#include "settle.h"
#include "snapread.h"
#include "staleness.h"
#include <string.h>
#include <sys/stat.h>

enum {
    OPEN_TRIES = 50,
    OPEN_AT_ONCE = 5, /* of these; then there are pauses, of */
    OPEN_PAUSE_US = 2 * 1000,
    FIRST_READ = 4096,        /* holds the header of nearly every image */
    STRINGS_FREE = 128 << 10, /* bytes of a snapshot table that are kept without asking for room */
    STRINGS_STEP = 1 << 20,   /* bytes of a longer one from one asking to the next */
};

/* ---- reading the header ----------------------------------------------------------------- */

/* Decode header and extensions from the first len bytes. */
static int decode_header(const uint8_t *buf, size_t len, QcHeader *ret, GError **error)
{
    int err = qc_header_decode(buf, len, ret, error);
    return err ? err : qc_header_decode_extensions(ret, buf, len, error);
}

/* Read the first len bytes of the file into *buf, which grows. */
static int read_first(QcFile *file, size_t len, uint8_t **buf, GError **error)
{
    uint8_t *grown = g_try_realloc(*buf, MAX(len, 1));
    if (!grown)
        return qc_fail(error, -ENOMEM, "no memory for the header");
    *buf = grown;
    qc_file_refresh(file, 0, len);
    int err = qc_file_read_padded(file, grown, len, 0);
    return err ? qc_fail(error, err, "the header cannot be read: %s", g_strerror(-err)) : 0;
}

/* Read the bytes of the first cluster that matter, and decode the header. *ret_buf is set, too,
 * when the header is not valid. */
static int read_header(QcFile *file, uint64_t file_size, uint8_t **ret_buf, QcHeader *ret,
                       GError **error)
{
    size_t len = (size_t)MIN(FIRST_READ, file_size);
    g_autofree uint8_t *buf = NULL;
    int err = read_first(file, len, &buf, error);
    if (err < 0)
        return err;
    err = decode_header(buf, len, ret, NULL); /* no error yet: a second look may mend it */
    uint64_t cluster = err == -ENODATA ? qc_cluster_size(&ret->layout) : 0;
    if (MIN(cluster, file_size) > len) {
        len = (size_t)MIN(cluster, file_size);
        err = read_first(file, len, &buf, error);
        if (err < 0)
            return err;
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

static int fill_info(QcImage *image, const uint8_t *buf)
{
    const QcHeader *h = &image->header;
    QcInfo *info = &image->info;
    info->virtual_size = qc_sectors_down(h->size);
    info->version = h->layout.version;
    info->cluster_bits = h->layout.cluster_bits;
    info->refcount_bits = 1u << h->layout.refcount_order;
    info->compression = h->compression_type == QC_COMPRESSION_ZSTD ? "zstd" : "zlib";
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

/* Names never take the last of the memory. *ask_at: in bytes of the table, when to ask next. */
static int check_room(const QcSnapReader *reader, uint64_t *ask_at)
{
    if (reader->consumed < *ask_at)
        return 0;
    *ask_at = reader->consumed + STRINGS_STEP;
    return qc_room_for(2 * STRINGS_STEP) ? 0 : -ENOMEM;
}

/* Let a snapshot as the reader gave it have strings of its own. */
static int keep_snapshot(QcImage *image, QcSnapshot *s, size_t id_len)
{
    s->id = qc_strings_keep(&image->strings, s->id, id_len);
    s->name = qc_strings_keep(&image->strings, s->name, s->name_len);
    return s->id && s->name ? 0 : -ENOMEM;
}

static int read_entries(QcImage *image, QcSnapReader *reader, QcSnapshot *list)
{
    uint64_t ask_at = STRINGS_FREE;
    int err = 0;
    for (uint32_t i = 0; i < image->header.n_snapshots && !err; i++) {
        size_t id_len, size;
        const uint8_t *raw;
        image->snapshot_at[i] = reader->at;
        err = qc_snap_reader_next(reader, &list[i], &id_len, &raw, &size);
        if (!err)
            err = check_room(reader, &ask_at);
        if (!err)
            err = keep_snapshot(image, &list[i], id_len);
    }
    return err;
}

static int read_snapshots(QcImage *image, GError **error)
{
    const QcHeader *h = &image->header;
    image->snapshots_end = h->snapshots_offset;
    if (h->n_snapshots == 0)
        return 0;
    QcSnapReader reader = qc_snap_reader_at(image, h->snapshots_offset);
    /* The file holds at least 40 bytes an entry: a lie costs no more memory than the file. */
    if (h->snapshots_offset > image->info.stat.size ||
        h->n_snapshots > (image->info.stat.size - h->snapshots_offset) / sizeof(QcDiskSnapshot))
        return qc_fail(error, -EUCLEAN, "the snapshot table lies past the end of the file");
    QcSnapshot *list = g_try_new0(QcSnapshot, h->n_snapshots);
    image->info.snapshots = list;
    image->snapshot_at = g_try_new0(uint64_t, h->n_snapshots);
    if (!list || !image->snapshot_at)
        return qc_fail(error, -ENOMEM, "no memory for %u snapshots", h->n_snapshots);

    qc_file_refresh(image->file, h->snapshots_offset, QC_MAX_SNAPSHOT_TABLE_BYTES);
    int err = read_entries(image, &reader, list);
    image->snapshots_end = reader.at;
    qc_snap_reader_clear(&reader);
    if (err < 0)
        return qc_fail(error, err, "the snapshot table cannot be read: %s", g_strerror(-err));
    image->info.n_snapshots = h->n_snapshots;
    return 0;
}

/* ---- opening ---------------------------------------------------------------------------- */

static void drop_metadata(QcImage *image)
{
    g_clear_pointer((QcSnapshot **)&image->info.snapshots, g_free);
    g_clear_pointer((QcBitmap **)&image->info.bitmaps, g_free);
    g_clear_pointer(&image->snapshot_at, g_free);
    g_clear_pointer(&image->bitmap_tables, g_free);
    g_clear_pointer(&image->header_bytes, g_free);
    qc_strings_clear(&image->strings);
    QcFileStat st = image->info.stat;
    image->info = (QcInfo){.format = QC_FORMAT_QCOW2, .stat = st};
    memset(&image->header, 0, sizeof(image->header));
    memset(image->sector0, 0, sizeof(image->sector0));
}

/* Keep what the header is to be compared with, if that tells all, and not too much at each look. */
static void keep_header(QcImage *image, const uint8_t *buf)
{
    size_t len = (size_t)image->header.end;
    /* LUKS key slots and the directory of bitmaps are overwritten, far behind the header. */
    bool told = image->info.luks_length == 0 && !image->header.has_bitmaps;
    if (image->trust != QC_TRUST_METADATA)
        return;
    image->header_bytes = told && len <= FIRST_READ ? g_try_malloc(len) : NULL;
    if (image->header_bytes)
        memcpy(image->header_bytes, buf, len);
    else
        image->trust = QC_TRUST_READING;
}

/* The header, and what info has of it. */
static int read_info(QcImage *image, GError **error)
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
    keep_header(image, buf);
    return 0;
}

static int read_metadata(QcImage *image, GError **error)
{
    int err = read_info(image, error);
    if (!err)
        err = check_against_file(image, error);
    if (!err && !image->disk_only)
        err = read_snapshots(image, error);
    if (!err && !image->disk_only)
        err = qc_bitmaps_read(image, error);
    return err;
}

/* The file as it is before it is read. */
static void note_state(QcImage *image, const QcFileStat *st)
{
    image->info.stat = *st;
    image->trust = qc_file_trust(image->file, st);
}

/*
 * Read the metadata once. *ret_changed: the file has changed meanwhile, so the result is an error
 * that says nothing: try again. A failure counts only when the header stood still, and the file had
 * the length that it was compared with: a table that is being replaced may look like anything, and
 * lie behind what was the end of the file.
 */
static int try_once(QcImage *image, bool *ret_changed, GError **error)
{
    g_autoptr(GError) local = NULL;
    QcFileStat now;
    int err = read_metadata(image, &local);
    qc_image_refresh(image, NULL);
    int same = qc_image_has_same_sector0(image);
    int stat_err = qc_file_stat(image->file, &now);
    *ret_changed = false;
    if (stat_err < 0)
        return qc_fail(error, stat_err, "%s", g_strerror(-stat_err));
    if (!err && same < 0)
        return qc_fail(error, same, "the header cannot be read again: %s", g_strerror(-same));
    if (err != -ENOMEM)
        *ret_changed = same == 0 || (err && now.size != image->info.stat.size);
    if (*ret_changed)
        note_state(image, &now);
    image->info.stat.size = now.size; /* of a file that grew, all that was said holds */
    if (err < 0)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (*ret_changed)
        err = qc_fail(error, -EAGAIN, "the image keeps changing");
    return err;
}

static int read_steady_metadata(QcImage *image, GError **error)
{
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        bool changed;
        int err = try_once(image, &changed, &local);
        if (!changed || tries == OPEN_TRIES) {
            if (err < 0)
                g_propagate_error(error, g_steal_pointer(&local));
            return err;
        }
        if (tries > OPEN_AT_ONCE) /* snapshots are taken and deleted without a break */
            g_usleep(OPEN_PAUSE_US);
    }
}

/* An image of which nothing is read yet. */
static int new_image(QcFile *file, const char *path, QcFormat format, QcCache *cache, QcImage **ret,
                     GError **error)
{
    QcFileStat st;
    int err = qc_file_stat(file, &st);
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
    if (st.size > QC_MAX_FILE_SIZE)
        return qc_fail(error, -EFBIG, "%s: it is larger than a disk can be", path);
    image->info = (QcInfo){.format = format, .virtual_size = qc_sectors_up(st.size)};
    note_state(image, &st);
    *ret = g_steal_pointer(&image);
    return 0;
}

static int open_image(QcFile *file, const char *path, QcFormat format, QcCache *cache,
                      bool disk_only, QcImage **ret, GError **error)
{
    g_autoptr(QcImage) image = NULL;
    int err = new_image(file, path, format, cache, &image, error);
    if (err < 0)
        return err;
    image->disk_only = image->spent = disk_only; /* a command has to know all that is there */
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

int qc_image_open(QcFile *file, const char *path, QcFormat format, QcCache *cache, QcImage **ret,
                  GError **error)
{
    return open_image(file, path, format, cache, false, ret, error);
}

int qc_image_open_disk(QcFile *file, const char *path, QcFormat format, QcCache *cache,
                       QcImage **ret, GError **error)
{
    return open_image(file, path, format, cache, true, ret, error);
}

int qc_image_open_header(QcFile *file, const char *path, QcCache *cache, QcImage **ret)
{
    g_autoptr(QcImage) image = NULL;
    int err = new_image(file, path, QC_FORMAT_QCOW2, cache, &image, NULL);
    if (err < 0)
        return err;
    image->disk_only = image->spent = true;
    err = read_info(image, NULL);
    if (!err)
        *ret = g_steal_pointer(&image);
    return err;
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

int qc_image_luks(const QcImage *image, QcLuks *ret)
{
    const QcInfo *info = &image->info;
    uint8_t bytes[sizeof(QcDiskLuksHeader)];
    size_t len = MIN(info->luks_length, sizeof(bytes));
    if (info->encryption != QC_ENCRYPTION_LUKS)
        return -ENOENT;
    int err = qc_file_read(image->file, bytes, len, info->luks_offset);
    return err ? err : qc_luks_decode(bytes, len, ret);
}

const char *qc_image_unsupported(const QcImage *image)
{
    const QcInfo *info = &image->info;
    if (info->encryption == QC_ENCRYPTION_AES)
        return "encrypted images (AES) are not supported";
    if (info->encryption == QC_ENCRYPTION_LUKS)
        return "encrypted images (LUKS) are not supported";
    if (info->has_data_file)
        return "external data files are not supported";
    return NULL;
}
