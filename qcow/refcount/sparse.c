/* sparse.c - see sparse.h. */
#include "sparse.h"
#include "be.h"
#include <errno.h>

enum {
    PIECE = 256 << 10,
};

/* Where the next number that may not be 0 begins, at or after at; both count from offset. */
static uint64_t skip_hole(QcFile *file, uint64_t offset, uint64_t at, uint64_t len)
{
    uint64_t data = qc_file_next_data(file, offset + at) - offset;
    return MIN(len, data & ~(uint64_t)(sizeof(be64) - 1));
}

static int call_each(const be64 *piece, size_t n, uint32_t first, QcSparseFunc func, void *data)
{
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) {
        uint64_t number = be64_get(piece[i]);
        if (number != 0)
            err = func(data, first + (uint32_t)i, number);
    }
    return err;
}

int qc_sparse_read(QcFile *file, uint64_t offset, uint32_t n, QcSparseFunc func, void *data)
{
    uint64_t len = n * sizeof(be64), at = 0;
    QcFileStat st;
    int err = qc_file_stat(file, &st);
    if (err < 0 || n == 0)
        return err;
    if (offset > st.size || len > st.size - offset)
        return -EUCLEAN;
    g_autofree be64 *piece = g_try_malloc(MIN(len, PIECE));
    if (!piece)
        return -ENOMEM;
    while (!err && (at = skip_hole(file, offset, at, len)) < len) {
        size_t bytes = (size_t)MIN(len - at, PIECE);
        err = qc_file_read(file, piece, bytes, offset + at);
        if (!err)
            err = call_each(piece, bytes / sizeof(be64), (uint32_t)(at / sizeof(be64)), func, data);
        at += bytes;
    }
    return err == -ENODATA ? -EUCLEAN : err;
}
