/* snapread.c - see snapread.h. */
#include "snapread.h"
#include <errno.h>
#include <string.h>

enum {
    READ_STEP = 64 << 10,
};

QcSnapReader qc_snap_reader_at(const QcImage *image, uint64_t at)
{
    return (QcSnapReader){.file = image->file,
                          .layout = &image->header.layout,
                          .disk_size = image->info.virtual_size,
                          .at = at};
}

/* Have at least need unread bytes in the buffer. The end of the file is the table's too. */
static int fill(QcSnapReader *reader, size_t need)
{
    if (reader->len >= need)
        return 0;
    if (need > reader->room) {
        size_t room = MAX(need, (size_t)READ_STEP);
        uint8_t *grown = g_try_realloc(reader->buf, room + reader->start);
        if (!grown)
            return -ENOMEM;
        reader->buf = grown;
        reader->room = room;
    }
    memmove(reader->buf, reader->buf + reader->start, reader->len);
    reader->start = 0;
    while (reader->len < need) {
        ssize_t n = qc_file_read_some(reader->file, reader->buf + reader->len,
                                      reader->room - reader->len, reader->at + reader->len);
        if (n <= 0)
            return n < 0 ? (int)n : -EUCLEAN;
        reader->len += (size_t)n;
    }
    return 0;
}

int qc_snap_reader_next(QcSnapReader *reader, QcSnapshot *ret, size_t *ret_id_len,
                        const uint8_t **ret_raw, size_t *ret_size)
{
    size_t size = sizeof(QcDiskSnapshot);
    int err;
    do {
        err = fill(reader, size);
        if (!err)
            err =
                qc_snaptable_decode(reader->layout, reader->disk_size, reader->buf + reader->start,
                                    reader->len, ret, ret_id_len, &size);
    } while (err == -ENODATA);
    if (err < 0)
        return err;
    /* The last entry's padding may lie past the end of the file. */
    size_t take = MIN(size, reader->len);
    *ret_raw = reader->buf + reader->start;
    *ret_size = take;
    reader->start += take;
    reader->len -= take;
    reader->at += size;
    reader->consumed += size;
    return reader->consumed > QC_MAX_SNAPSHOT_TABLE_BYTES ? -EUCLEAN : 0;
}

void qc_snap_reader_clear(QcSnapReader *reader)
{
    g_clear_pointer(&reader->buf, g_free);
}
