/*
 * create.c - new, empty images.
 *
 * Cluster 0 holds the header, then come refcount table, refcount blocks and L1 table, in
 * this order and without gaps, so everything counted has refcount 1.
 */
#include "error.h"
#include "format.h"
#include "refcodec.h"
#include <string.h>

enum {
    EXTENSIONS_ROOM = 32, /* bytes: what an extension takes besides its text, and the end of them */
};

typedef struct Plan {
    QcLayout layout;
    uint64_t size;
    uint64_t l1_entries;
    uint64_t table_clusters, blocks, l1_clusters, total; /* clusters */
} Plan;

static int order_of_bits(unsigned bits)
{
    for (int order = 0; order <= QC_MAX_REFCOUNT_ORDER; order++)
        if (1u << order == bits)
            return order;
    return -EINVAL;
}

static int check_options(const QcCreateOptions *o, Plan *p, GError **error)
{
    unsigned version = o->version ? o->version : 3;
    unsigned bits = o->cluster_bits ? o->cluster_bits : 16;
    int order = order_of_bits(o->refcount_bits ? o->refcount_bits : 16);
    size_t name_len = o->backing_file ? strlen(o->backing_file) : 0;
    if (version != 2 && version != 3)
        return qc_fail(error, -EINVAL, "the version is 2 or 3");
    if (bits < QC_MIN_CLUSTER_BITS || bits > QC_MAX_CLUSTER_BITS)
        return qc_fail(error, -EINVAL, "the cluster size is 512 bytes to 2 MiB");
    if (order < 0)
        return qc_fail(error, -EINVAL, "a refcount has 1, 2, 4, 8, 16, 32 or 64 bits");
    if (version == 2 &&
        (order != QC_V2_REFCOUNT_ORDER || o->extended_l2 || o->lazy_refcounts || o->zstd))
        return qc_fail(error, -EINVAL, "version 2 does not have these features");
    if (o->extended_l2 && bits < QC_MIN_EXTENDED_L2_BITS)
        return qc_fail(error, -EINVAL, "extended L2 entries need clusters of 16 KiB or more");
    if (!o->backing_file != !o->backing_format)
        return qc_fail(error, -EINVAL, "a backing file needs a format, and the other way round");
    if (name_len > QC_MAX_BACKING_NAME || (o->backing_file && name_len == 0) ||
        (o->backing_file &&
         sizeof(QcDiskHeader) + EXTENSIONS_ROOM + strlen(o->backing_format) + name_len >
             1u << bits))
        return qc_fail(error, -EINVAL, "the backing file's name is empty or too long");
    if (o->virtual_size > QC_MAX_DISK_SIZE)
        return qc_fail(error, -EINVAL, "the disk is too large");
    p->size = qc_sectors_up(o->virtual_size);
    p->layout = (QcLayout){.version = version,
                           .cluster_bits = bits,
                           .refcount_order = (unsigned)order,
                           .extended_l2 = o->extended_l2};
    return 0;
}

static int plan_clusters(Plan *p, GError **error)
{
    const QcLayout *l = &p->layout;
    uint64_t per_block = qc_cluster_size(l) * 8 >> l->refcount_order;
    p->l1_entries = qc_l1_entries_for(l, p->size);
    if (p->l1_entries > QC_MAX_L1_BYTES / sizeof(be64))
        return qc_fail(error, -EINVAL, "the disk is too large for the cluster size");
    p->l1_clusters = qc_clusters_for(l, p->l1_entries * sizeof(be64));
    uint64_t before;
    do {
        before = p->total;
        p->blocks = MAX(1, (p->total + per_block - 1) / per_block);
        p->table_clusters = qc_clusters_for(l, p->blocks * sizeof(be64));
        p->total = 1 + p->table_clusters + p->blocks + p->l1_clusters;
    } while (p->total != before);
    return 0;
}

static size_t put_extension(uint8_t *at, uint32_t type, const char *text)
{
    size_t len = strlen(text);
    QcDiskExtension ext = {be32_make(type), be32_make((uint32_t)len)};
    memcpy(at, &ext, sizeof(ext));
    memcpy(at + sizeof(ext), text, len);
    return sizeof(ext) + qc_padded(len);
}

/* Fill cluster 0, which is zero. */
static void encode_header(const Plan *p, const QcCreateOptions *o, uint8_t *cluster)
{
    const QcLayout *l = &p->layout;
    uint64_t first_block = 1 + p->table_clusters, l1 = first_block + p->blocks;
    QcDiskHeader d = {
        .magic = be32_make(QCOW_MAGIC),
        .version = be32_make(l->version),
        .cluster_bits = be32_make(l->cluster_bits),
        .size = be64_make(p->size),
        .l1_size = be32_make((uint32_t)p->l1_entries),
        .l1_table_offset = be64_make(p->l1_entries ? l1 << l->cluster_bits : 0),
        .refcount_table_offset = be64_make(qc_cluster_size(l)),
        .refcount_table_clusters = be32_make((uint32_t)p->table_clusters),
    };
    size_t at = QC_V2_HEADER_LENGTH;
    if (l->version == 3) {
        at = sizeof(d);
        d.incompatible_features = be64_make((o->zstd ? QC_INCOMPAT_COMPRESSION : 0) |
                                            (l->extended_l2 ? QC_INCOMPAT_EXTENDED_L2 : 0));
        d.compatible_features = be64_make(o->lazy_refcounts ? QC_COMPAT_LAZY : 0);
        d.refcount_order = be32_make(l->refcount_order);
        d.header_length = be32_make(sizeof(d));
        d.compression_type = o->zstd ? QC_COMPRESSION_ZSTD : QC_COMPRESSION_ZLIB;
    }
    size_t header_length = at;
    if (o->backing_file) {
        at += put_extension(cluster + at, QC_EXT_BACKING_FORMAT, o->backing_format);
        at += sizeof(QcDiskExtension); /* the end: zeros */
        d.backing_file_offset = be64_make(at);
        d.backing_file_size = be32_make((uint32_t)strlen(o->backing_file));
        memcpy(cluster + at, o->backing_file, strlen(o->backing_file));
    }
    memcpy(cluster, &d, header_length);
}

static int write_refcounts(QcFile *file, const Plan *p)
{
    const QcLayout *l = &p->layout;
    size_t size = (size_t)qc_cluster_size(l);
    uint64_t per_block = size * 8 >> l->refcount_order, first_block = 1 + p->table_clusters;
    g_autofree be64 *table = g_try_malloc0((size_t)p->table_clusters * size);
    g_autofree uint8_t *block = g_try_malloc(size);
    if (!table || !block)
        return -ENOMEM;
    int err = 0;
    for (uint64_t i = 0; i < p->blocks && !err; i++) {
        uint64_t offset = (first_block + i) << l->cluster_bits;
        table[i] = be64_make(offset);
        memset(block, 0, size);
        for (uint64_t c = i * per_block; c < MIN(p->total, (i + 1) * per_block); c++)
            qc_refcount_set(block, l->refcount_order, c - i * per_block, 1);
        err = qc_file_write(file, block, size, offset);
    }
    return err ? err : qc_file_write(file, table, (size_t)p->table_clusters * size, size);
}

static int write_image(QcFile *file, const Plan *p, const QcCreateOptions *o)
{
    size_t size = (size_t)qc_cluster_size(&p->layout);
    g_autofree uint8_t *header = g_try_malloc0(size);
    if (!header)
        return -ENOMEM;
    encode_header(p, o, header);
    int err = qc_file_truncate(file, p->total * size); /* the L1 table: zeros */
    if (!err)
        err = write_refcounts(file, p);
    if (!err)
        err = qc_file_sync(file);
    if (!err) /* last: without it the file is no image */
        err = qc_file_write(file, header, size, 0);
    return err ? err : qc_file_sync(file);
}

int qc_create(QcFile *file, const QcCreateOptions *options, GError **error)
{
    Plan plan = {0};
    QcFileStat st;
    int err = check_options(options, &plan, error);
    if (!err)
        err = plan_clusters(&plan, error);
    if (err < 0)
        return err;
    err = qc_file_stat(file, &st);
    if (!err && st.size != 0)
        return qc_fail(error, -EINVAL, "the file is not empty");
    if (!err)
        err = write_image(file, &plan, options);
    return err ? qc_fail(error, err, "the image cannot be written: %s", g_strerror(-err)) : 0;
}
