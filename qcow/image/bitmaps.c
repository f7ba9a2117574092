/*
 * bitmaps.c - the directory of an image's bitmaps.
 */
#include "bitmaps.h"
#include "error.h"

/*
 * Whether a bitmap's table has as many entries as the disk asks for, and not too many. One that was
 * not closed may be of a disk that had another size.
 */
static bool table_fits(const QcImage *image, const QcDiskBitmapEntry *d)
{
    uint64_t size = image->info.virtual_size, entries = be32_get(d->table_size);
    uint64_t per_byte = UINT64_C(8) << d->granularity_bits;
    uint64_t bytes = size / per_byte + (size % per_byte != 0);
    uint64_t needed = qc_clusters_for(&image->header.layout, bytes);
    if (entries > (unsigned)QC_MAX_BITMAP_BYTES >> image->header.layout.cluster_bits)
        return false;
    if (be32_get(d->flags) & QC_BITMAP_IN_USE)
        return entries > 0 || needed == 0;
    return entries == needed;
}

/* §"Bitmap directory"; what QEMU does not open an image with either. */
static bool is_valid(const QcImage *image, const QcDiskBitmapEntry *d)
{
    return d->type == QC_BITMAP_DIRTY && d->granularity_bits >= QC_MIN_GRANULARITY_BITS &&
           d->granularity_bits <= QC_MAX_GRANULARITY_BITS && be16_get(d->name_size) > 0 &&
           be16_get(d->name_size) <= QC_MAX_BITMAP_NAME && be32_get(d->extra_data_size) == 0 &&
           !(be32_get(d->flags) & ~QC_BITMAP_KNOWN) && table_fits(image, d);
}

/* The directory is read entry by entry: it may claim 64 MiB. */
static int read_bitmap(QcImage *image, uint64_t at, uint64_t room, uint64_t *ret_size)
{
    QcDiskBitmapEntry d;
    char name[QC_MAX_BITMAP_NAME];
    int err = qc_file_read(image->file, &d, sizeof(d), at);
    if (err < 0)
        return err;
    size_t name_len = be16_get(d.name_size);
    if (!is_valid(image, &d) || qc_padded(sizeof(d) + name_len) > room)
        return -EUCLEAN;
    err = qc_file_read(image->file, name, name_len, at + sizeof(d));
    if (err < 0)
        return err;
    const char *kept = qc_strings_keep(&image->strings, name, name_len);
    if (!kept)
        return -ENOMEM;
    unsigned i = image->info.n_bitmaps++;
    ((QcBitmap *)image->info.bitmaps)[i] = (QcBitmap){
        .name = kept,
        .granularity = UINT64_C(1) << d.granularity_bits,
        .in_use = be32_get(d.flags) & QC_BITMAP_IN_USE,
        .is_auto = be32_get(d.flags) & QC_BITMAP_AUTO,
    };
    image->bitmap_tables[i] = (QcBitmapTable){be64_get(d.table_offset), be32_get(d.table_size)};
    *ret_size = qc_padded(sizeof(d) + name_len);
    return 0;
}

/* What is not valid ends the list: for reading, bitmaps are only shown. */
static int read_directory(QcImage *image)
{
    const QcHeader *h = &image->header;
    uint64_t at = 0, size = 0;
    int err = 0;
    while (image->info.n_bitmaps < h->n_bitmaps && !err) {
        if (h->bitmap_directory_size - at < sizeof(QcDiskBitmapEntry))
            break;
        err = read_bitmap(image, h->bitmap_directory_offset + at, h->bitmap_directory_size - at,
                          &size);
        at += size;
    }
    image->bitmaps_whole =
        !err && image->info.n_bitmaps == h->n_bitmaps && at == h->bitmap_directory_size;
    return err == -EUCLEAN || err == -ENODATA ? 0 : err;
}

int qc_bitmaps_read(QcImage *image, GError **error)
{
    const QcHeader *h = &image->header;
    if (!h->has_bitmaps)
        return 0;
    uint64_t size = image->info.stat.size;
    if (h->bitmap_directory_offset > size ||
        h->bitmap_directory_size > size - h->bitmap_directory_offset ||
        h->n_bitmaps > h->bitmap_directory_size / sizeof(QcDiskBitmapEntry))
        return qc_fail(error, -EUCLEAN, "the bitmap directory lies past the end of the file");
    image->info.bitmaps = g_try_new0(QcBitmap, h->n_bitmaps);
    image->bitmap_tables = g_try_new0(QcBitmapTable, h->n_bitmaps);
    if (!image->info.bitmaps || !image->bitmap_tables)
        return qc_fail(error, -ENOMEM, "no memory for the bitmap directory");
    qc_file_refresh(image->file, image->header.bitmap_directory_offset,
                    image->header.bitmap_directory_size);
    int err = read_directory(image);
    if (err < 0)
        return qc_fail(error, err, "the bitmap directory cannot be read: %s", g_strerror(-err));
    return 0;
}
