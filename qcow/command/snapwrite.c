/* snapwrite.c - see snapwrite.h. */
#include "snapwrite.h"
#include "snapread.h"
#include <errno.h>
#include <string.h>

/* A snapshot table being made: room is enough for the old one and what an edit can add. */
typedef struct NewTable {
    uint8_t *bytes;
    size_t len;
} NewTable;

enum {
    /* A new entry, or a new name in an old one: header, extra data, id, name, padding. */
    EDIT_ROOM = sizeof(QcDiskSnapshot) + sizeof(QcDiskSnapshotExtra) + QC_NEW_ID_BYTES +
                QC_MAX_SNAPSHOT_NAME + 16,
};

/* Copy an entry, with another name where that is not NULL. Returns the bytes written. */
static size_t copy_entry(const QcLayout *l, QcSnapshot *s, size_t id_len, const uint8_t *raw,
                         size_t size, const char *new_name, uint8_t *to)
{
    if (new_name) {
        s->name = new_name;
        s->name_len = strlen(new_name);
    }
    if (qc_snapshot_is_incomplete(l, s)) { /* it has no unknown extra data that could be lost */
        qc_snaptable_encode(s, id_len, to);
        return qc_snaptable_encoded_size(id_len, s->name_len);
    }
    if (new_name)
        return qc_snaptable_rename(raw, s->name, s->name_len, to);
    memcpy(to, raw, size);
    return size;
}

/* Whether the new table needs more room for the entries up to this one than was made for them. */
static bool needs_more_room(const QcImage *image, unsigned i, const QcSnapshot *s,
                            uint64_t consumed)
{
    const QcLayout *l = &image->header.layout;
    return consumed > image->snapshots_end - image->header.snapshots_offset ||
           (qc_snapshot_is_incomplete(l, s) &&
            !qc_snapshot_is_incomplete(l, &image->info.snapshots[i]));
}

static int copy_entries(QcTxn *txn, const QcTableEdit *edit, NewTable *table)
{
    const QcHeader *h = &txn->image->header;
    QcSnapReader reader = qc_snap_reader_at(txn->image, h->snapshots_offset);
    int err = 0;
    for (unsigned i = 0; i < h->n_snapshots && !err; i++) {
        QcSnapshot s;
        size_t id_len, size;
        const uint8_t *raw;
        err = qc_snap_reader_next(&reader, &s, &id_len, &raw, &size);
        if (!err && needs_more_room(txn->image, i, &s, reader.consumed))
            err = -EUCLEAN; /* than at first: a program ignores the locks */
        bool edited = i == edit->index;
        if (err || (edited && edit->drop))
            continue;
        size = copy_entry(&h->layout, &s, id_len, raw, size, edited ? edit->new_name : NULL,
                          table->bytes + table->len);
        table->len = qc_padded(table->len + size); /* the last one's padding may lack */
    }
    qc_snap_reader_clear(&reader);
    return err;
}

static void append_entry(const QcSnapshot *s, NewTable *table)
{
    size_t id_len = strlen(s->id);
    qc_snaptable_encode(s, id_len, table->bytes + table->len);
    table->len += qc_snaptable_encoded_size(id_len, s->name_len);
}

static int write_table(QcTxn *txn, const NewTable *table)
{
    txn->next.snapshots_offset = 0;
    if (table->len == 0)
        return 0;
    if (table->len > QC_MAX_SNAPSHOT_TABLE_BYTES)
        return -EFBIG;
    int err = qc_txn_alloc(txn, table->len, &txn->next.snapshots_offset);
    return err ? err : qc_txn_put_padded(txn, txn->next.snapshots_offset, table->bytes, table->len);
}

static unsigned count_incomplete(const QcImage *image)
{
    unsigned n = 0;
    for (unsigned i = 0; i < image->info.n_snapshots; i++)
        n += qc_snapshot_is_incomplete(&image->header.layout, &image->info.snapshots[i]);
    return n;
}

int qc_snapshots_replace(QcTxn *txn, const QcTableEdit *edit)
{
    const QcImage *image = txn->image;
    uint64_t old_bytes = image->snapshots_end - image->header.snapshots_offset;
    uint64_t grows = count_incomplete(image) * sizeof(QcDiskSnapshotExtra);
    NewTable table = {.bytes = g_try_malloc0(old_bytes + grows + EDIT_ROOM)};
    if (!table.bytes)
        return -ENOMEM;
    int err = copy_entries(txn, edit, &table);
    if (!err && edit->added)
        append_entry(edit->added, &table);
    if (!err)
        err = write_table(txn, &table);
    if (!err)
        err = qc_txn_release(txn, image->header.snapshots_offset, old_bytes);
    txn->next.n_snapshots += (edit->added != NULL) - edit->drop;
    g_free(table.bytes);
    return err;
}

int qc_snapshots_complete(QcTxn *txn)
{
    if (count_incomplete(txn->image) == 0)
        return 0;
    return qc_snapshots_replace(txn, &(QcTableEdit){0});
}
