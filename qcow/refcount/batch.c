/*
 * batch.c - see batch.h.
 *
 * Tables lie scattered over an image, most of them next to each other. Sorted by offset,
 * neighbours are fetched with one read of up to RUN_BYTES: long enough for the storage, and short
 * enough that what was read is still in the processor's cache when it is looked at. Tables in holes
 * of the file, which only hostile images have, cost no reading at all, however many there are.
 */
#include "batch.h"
#include <errno.h>

enum {
    RUN_BYTES = 1 << 20,
    FEW = 32, /* items that are sorted the simple way */
};

typedef struct Batch {
    QcFile *file;
    QcMeter *meter;
    uint64_t cluster_size, file_size;
    size_t run_max;     /* items */
    uint64_t next_data; /* no data lies between the last question and here */
    uint8_t *buf;
    QcBatchFunc func;
    void *data;
} Batch;

static void sort_few(QcBatchItem *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        QcBatchItem item = items[i];
        size_t at = i;
        for (; at > 0 && items[at - 1].offset > item.offset; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

static unsigned byte_of(const QcBatchItem *item, unsigned shift)
{
    return item->offset >> shift & 0xff;
}

/* Move each item to where those with the same byte belong: from start[byte] to end[byte]. */
static void deal_out(QcBatchItem *items, const size_t *end, size_t *start, unsigned shift)
{
    for (unsigned b = 0; b < 256; b++) {
        while (start[b] < end[b]) {
            QcBatchItem item = items[start[b]];
            unsigned byte;
            while ((byte = byte_of(&item, shift)) != b) {
                QcBatchItem other = items[start[byte]];
                items[start[byte]++] = item;
                item = other;
            }
            items[start[b]++] = item;
        }
    }
}

/*
 * By the highest byte first, in place; differing has the bits that are not the same everywhere.
 * At most eight levels deep.
 */
static void sort_many(QcBatchItem *items, size_t n, uint64_t differing)
{
    if (n <= FEW || !differing) {
        sort_few(items, differing ? n : 0);
        return;
    }
    unsigned shift = (unsigned)(63 - __builtin_clzll(differing)) & ~7u;
    uint64_t below = differing & ((UINT64_C(1) << shift) - 1);
    size_t end[256] = {0}, start[256], next = 0;
    for (size_t i = 0; i < n; i++)
        end[byte_of(&items[i], shift)]++;
    for (unsigned b = 0; b < 256; b++) {
        start[b] = next;
        next += end[b];
        end[b] = next;
    }
    deal_out(items, end, start, shift);
    for (unsigned b = 0; b < 256; b++) {
        size_t first = b > 0 ? end[b - 1] : 0;
        sort_many(items + first, end[b] - first, below);
    }
}

void qc_batch_sort(QcBatchItem *items, size_t n)
{
    uint64_t differing = 0;
    bool sorted = true;
    for (size_t i = 1; i < n; i++) {
        sorted = sorted && items[i - 1].offset <= items[i].offset;
        differing |= items[i].offset ^ items[0].offset;
    }
    if (!sorted)
        sort_many(items, n, differing);
}

static int check_items(const Batch *b, const QcBatchItem *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (items[i].offset >= b->file_size || b->file_size - items[i].offset < b->cluster_size)
            return -EUCLEAN;
        if (i > 0 && items[i].offset == items[i - 1].offset)
            return -EUCLEAN;
    }
    return 0;
}

/* Whether the file has a hole from offset to offset + cluster_size. Offsets only grow. */
static bool in_hole(Batch *b, uint64_t offset)
{
    if (b->next_data <= offset)
        b->next_data = qc_file_next_data(b->file, offset);
    return b->next_data >= offset + b->cluster_size;
}

static int hand_out(Batch *b, const QcBatchItem *item, uint8_t *cluster)
{
    int err = b->func(b->data, item, cluster);
    return err ? err : qc_meter_step(b->meter);
}

/* Read items that follow each other without a gap, and hand them out. */
static int read_run(Batch *b, const QcBatchItem *items, size_t n)
{
    size_t len = n * (size_t)b->cluster_size;
    int err = qc_file_read(b->file, b->buf, len, items[0].offset);
    if (err < 0)
        return err == -ENODATA ? -EUCLEAN : err;
    for (size_t i = 0; i < n && !err; i++)
        err = hand_out(b, &items[i], b->buf + i * b->cluster_size);
    return err;
}

static int read_all(Batch *b, const QcBatchItem *items, size_t n)
{
    int err = 0;
    for (size_t i = 0, run; i < n && !err; i += run) {
        run = 1;
        if (in_hole(b, items[i].offset)) {
            err = hand_out(b, &items[i], NULL);
            continue;
        }
        while (run < b->run_max && i + run < n &&
               items[i + run].offset == items[i].offset + run * b->cluster_size)
            run++;
        err = read_run(b, items + i, run);
    }
    return err;
}

int qc_batch_read(QcImage *image, QcBatchItem *items, size_t n, QcMeter *meter, QcBatchFunc func,
                  void *data)
{
    QcFileStat st;
    uint64_t cluster_size = qc_cluster_size(&image->header.layout);
    int err = qc_file_stat(image->file, &st);
    if (err < 0 || n == 0)
        return err;
    qc_batch_sort(items, n);
    Batch b = {.file = image->file,
               .meter = meter,
               .cluster_size = cluster_size,
               .file_size = st.size,
               .run_max = (size_t)MAX(1, RUN_BYTES / cluster_size),
               .func = func,
               .data = data};
    err = check_items(&b, items, n);
    if (err < 0)
        return err;
    b.buf = g_try_malloc(MIN(n, b.run_max) * cluster_size);
    if (!b.buf)
        return -ENOMEM;
    err = read_all(&b, items, n);
    g_free(b.buf);
    return err;
}
