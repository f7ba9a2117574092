/*
 * staleness.c - whether an image is still the same.
 *
 * A change of a file shows in its stat, as far as that can be trusted (settle.c). The stat of a
 * device tells nothing; and another machine may write to it, whose changes this machine does not
 * see before it forgets what it remembers of the device. A caller asks for that, as it is not to
 * happen at each read.
 *
 * Whether one snapshot still stands is asked of the file itself: header and entry are read, and the
 * header again, until both were of one moment.
 */
#include "staleness.h"
#include "settle.h"
#include "snapread.h"
#include <errno.h>
#include <string.h>

enum {
    FIND_TRIES = 50,
};

int qc_image_has_same_sector0(const QcImage *image)
{
    uint8_t now[QC_SECTOR];
    bool whole = image->info.stat.size >= sizeof(now);
    int err = (whole ? qc_file_read : qc_file_read_padded)(image->file, now, sizeof(now), 0);
    if (err == -ENODATA) /* the file was cut off */
        return 0;
    return err ? err : memcmp(now, image->sector0, sizeof(now)) == 0;
}

bool qc_image_has_same_header(const QcImage *image)
{
    if (image->trust != QC_TRUST_METADATA || image->info.format == QC_FORMAT_RAW)
        return true;
    size_t len = (size_t)image->header.end;
    g_autofree uint8_t *now = g_try_malloc(len);
    return now && qc_file_read(image->file, now, len, 0) == 0 &&
           memcmp(now, image->header_bytes, len) == 0;
}

bool qc_image_is_current(const QcImage *image)
{
    QcFileStat st;
    if (qc_file_stat(image->file, &st) < 0)
        return false;
    if (!image->cacheable) /* a device's stat tells nothing; but nothing was cached either */
        return st.size == image->info.stat.size &&
               (image->info.format == QC_FORMAT_RAW || qc_image_has_same_sector0(image) == 1);
    return image->trust != QC_TRUST_NOTHING && qc_file_same_stat(&st, &image->info.stat) &&
           !qc_file_time_has_come(&image->info.stat, &st) && qc_image_has_same_header(image);
}

QcTrust qc_image_trust(const QcImage *image)
{
    return image->trust;
}

void qc_image_refresh(const QcImage *image, const QcSnapshotHint *hint)
{
    qc_file_refresh(image->file, 0, QC_SECTOR);
    if (hint && hint->entry_at)
        qc_file_refresh(image->file, hint->entry_at, sizeof(QcDiskSnapshot));
}

static bool is_same_but_for_id(const QcSnapshot *a, const QcSnapshot *b)
{
    return a->l1_offset == b->l1_offset && a->l1_entries == b->l1_entries &&
           a->date_sec == b->date_sec && a->date_nsec == b->date_nsec;
}

bool qc_snapshot_is_same(const QcSnapshot *a, const QcSnapshot *b)
{
    return strcmp(a->id, b->id) == 0 && is_same_but_for_id(a, b);
}

/* The same of an entry as it was read: its id, of at most id_len bytes, need not end in a NUL. */
static bool is_same_entry(const QcSnapshot *entry, size_t id_len, const QcSnapshot *want)
{
    size_t len = strnlen(entry->id, id_len);
    return len == strlen(want->id) && memcmp(entry->id, want->id, len) == 0 &&
           is_same_but_for_id(entry, want) && entry->disk_size == want->disk_size;
}

/* Look for the snapshot in the n entries of the table at file offset at. */
static int search_table(const QcImage *image, const QcSnapshot *want, uint64_t at, uint32_t n,
                        uint64_t *ret_at)
{
    QcSnapReader reader = qc_snap_reader_at(image, at);
    int err = n > QC_MAX_SNAPSHOTS ? -EUCLEAN : 0;
    bool found = false;
    for (uint32_t i = 0; i < n && !err && !found; i++) {
        QcSnapshot s;
        size_t id_len, size;
        const uint8_t *raw;
        uint64_t entry_at = reader.at;
        err = qc_snap_reader_next(&reader, &s, &id_len, &raw, &size);
        found = !err && is_same_entry(&s, id_len, want);
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
    if (hint->entry_at && memcmp(state, hint->state, QC_STATE_END) == 0 &&
        search_table(image, want, hint->entry_at, 1, ret_at) == 0)
        return 0;
    qc_file_refresh(image->file, at, QC_MAX_SNAPSHOT_TABLE_BYTES);
    return search_table(image, want, at, n, ret_at);
}

int qc_image_find_snapshot(const QcImage *image, unsigned snapshot, QcSnapshotHint *hint)
{
    const QcSnapshot *want = &image->info.snapshots[snapshot];
    for (unsigned i = 0; i < FIND_TRIES; i++) {
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
