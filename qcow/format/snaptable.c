/* snaptable.c - see snaptable.h. */
#include "snaptable.h"
#include <errno.h>
#include <string.h>

static void decode_extra(const uint8_t *extra, size_t len, QcSnapshot *s)
{
    QcDiskSnapshotExtra d;
    memcpy(&d, extra, MIN(len, sizeof(d)));
    if (len >= 8)
        s->vm_state_size = be64_get(d.vm_state_size);
    s->size_stated = len >= 16;
    if (s->size_stated)
        s->disk_size = qc_sectors_down(be64_get(d.disk_size));
    if (len >= 24)
        s->icount = be64_get(d.icount);
}

static bool is_valid(const QcLayout *l, const QcSnapshot *s)
{
    return qc_offset_is_valid(l, s->l1_offset) && s->l1_entries <= QC_MAX_L1_BYTES / sizeof(be64) &&
           s->disk_size <= QC_MAX_DISK_SIZE;
}

int qc_snaptable_decode(const QcLayout *layout, uint64_t fallback_size, const uint8_t *buf,
                        size_t len, QcSnapshot *ret, size_t *ret_id_len, size_t *ret_size)
{
    QcDiskSnapshot d;
    *ret_size = sizeof(d);
    if (len < sizeof(d))
        return -ENODATA;
    memcpy(&d, buf, sizeof(d));
    size_t id_len = be16_get(d.id_size), name_len = be16_get(d.name_size);
    size_t extra_len = be32_get(d.extra_data_size);
    if (extra_len > QC_MAX_SNAPSHOT_EXTRA)
        return -EUCLEAN;
    *ret_size = sizeof(d) + extra_len + id_len + name_len;
    if (len < *ret_size) /* the last entry's padding may be missing */
        return -ENODATA;
    *ret_size = qc_padded(*ret_size);

    QcSnapshot s = {
        .id = (const char *)buf + sizeof(d) + extra_len,
        .name = (const char *)buf + sizeof(d) + extra_len + id_len,
        .name_len = name_len,
        .disk_size = fallback_size,
        .date_sec = be32_get(d.date_sec),
        .date_nsec = be32_get(d.date_nsec),
        .vm_clock_nsec = be64_get(d.vm_clock_nsec),
        .vm_state_size = be32_get(d.vm_state_size),
        .icount = UINT64_MAX,
        .l1_offset = be64_get(d.l1_table_offset),
        .l1_entries = be32_get(d.l1_size),
    };
    decode_extra(buf + sizeof(d), extra_len, &s);
    if (!is_valid(layout, &s))
        return -EUCLEAN;
    *ret = s;
    *ret_id_len = id_len;
    return 0;
}

size_t qc_snaptable_encoded_size(size_t id_len, size_t name_len)
{
    return qc_padded(sizeof(QcDiskSnapshot) + sizeof(QcDiskSnapshotExtra) + id_len + name_len);
}

void qc_snaptable_encode(const QcSnapshot *s, size_t id_len, uint8_t *buf)
{
    QcDiskSnapshot d = {
        .l1_table_offset = be64_make(s->l1_offset),
        .l1_size = be32_make(s->l1_entries),
        .id_size = be16_make((uint16_t)id_len),
        .name_size = be16_make((uint16_t)s->name_len),
        .date_sec = be32_make((uint32_t)s->date_sec),
        .date_nsec = be32_make(s->date_nsec),
        .vm_clock_nsec = be64_make(s->vm_clock_nsec),
        .vm_state_size = be32_make(s->vm_state_size > UINT32_MAX ? 0 : (uint32_t)s->vm_state_size),
        .extra_data_size = be32_make(sizeof(QcDiskSnapshotExtra)),
    };
    QcDiskSnapshotExtra extra = {
        .vm_state_size = be64_make(s->vm_state_size),
        .disk_size = be64_make(s->disk_size),
        .icount = be64_make(s->icount),
    };
    memset(buf, 0, qc_snaptable_encoded_size(id_len, s->name_len));
    memcpy(buf, &d, sizeof(d));
    memcpy(buf + sizeof(d), &extra, sizeof(extra));
    memcpy(buf + sizeof(d) + sizeof(extra), s->id, id_len);
    memcpy(buf + sizeof(d) + sizeof(extra) + id_len, s->name, s->name_len);
}

size_t qc_snaptable_rename(const uint8_t *entry, const char *name, size_t name_len, uint8_t *buf)
{
    QcDiskSnapshot d;
    memcpy(&d, entry, sizeof(d));
    size_t before_name = sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.id_size);
    d.name_size = be16_make((uint16_t)name_len);

    size_t size = qc_padded(before_name + name_len);
    memset(buf, 0, size);
    memcpy(buf, entry, before_name);
    memcpy(buf, &d, sizeof(d));
    memcpy(buf + before_name, name, name_len);
    return size;
}
