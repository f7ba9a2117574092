/* snapread.c - see snapread.h. */
#include "snapread.h"
#include <errno.h>
#include <string.h>

enum {
    READ_STEP = 64 << 10,
};

/* Have at least need unread bytes in the buffer. The end of the file is the table's too. */
static int fill(QcSnapReader *r, size_t need)
{
    if (r->len >= need)
        return 0;
    if (need > r->room) {
        size_t room = MAX(need, (size_t)READ_STEP);
        uint8_t *grown = g_try_realloc(r->buf, room + r->start);
        if (!grown)
            return -ENOMEM;
        r->buf = grown;
        r->room = room;
    }
    memmove(r->buf, r->buf + r->start, r->len);
    r->start = 0;
    while (r->len < need) {
        ssize_t n = r->file->ops->pread(r->file, r->buf + r->len, r->room - r->len, r->at + r->len);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EUCLEAN;
        r->len += (size_t)n;
    }
    return 0;
}

int qc_snap_reader_next(QcSnapReader *r, QcSnapshot *ret, size_t *ret_id_len,
                        const uint8_t **ret_raw, size_t *ret_size)
{
    size_t size = sizeof(QcDiskSnapshot);
    int err;
    do {
        err = fill(r, size);
        if (!err)
            err = qc_snaptable_decode(r->layout, r->disk_size, r->buf + r->start, r->len, ret,
                                      ret_id_len, &size);
    } while (err == -ENODATA);
    if (err < 0)
        return err;
    /* The last entry's padding may lie past the end of the file. */
    size_t take = MIN(size, r->len);
    *ret_raw = r->buf + r->start;
    *ret_size = take;
    r->start += take;
    r->len -= take;
    r->at += size;
    r->consumed += size;
    return r->consumed > QC_MAX_SNAPSHOT_TABLE_BYTES ? -EUCLEAN : 0;
}

void qc_snap_reader_clear(QcSnapReader *r)
{
    g_clear_pointer(&r->buf, g_free);
}
