/*
 * Fuzz target: the snapshot table. The input is a layout (two bytes) and a table. It is decoded
 * entry by entry from memory, and from a file through the reader, which must agree; what is
 * valid must survive being encoded and being renamed.
 */
#include "snaptable.h"
#include "fuzz.h"
#include "memfile.h"
#include "snapread.h"
#include <errno.h>
#include <string.h>

enum {
    FALLBACK = 12345 * 512,
};

static void check_same(const QcSnapshot *a, const QcSnapshot *b)
{
    fuzz_require(a->disk_size == b->disk_size && a->vm_state_size == b->vm_state_size);
    fuzz_require(a->l1_offset == b->l1_offset && a->l1_entries == b->l1_entries);
    fuzz_require(a->date_sec == b->date_sec && a->date_nsec == b->date_nsec);
    fuzz_require(a->vm_clock_nsec == b->vm_clock_nsec && a->icount == b->icount);
}

static void check_encode(const QcLayout *l, const QcSnapshot *s, size_t id_len)
{
    size_t size = qc_snaptable_encoded_size(id_len, s->name_len), got, got_id;
    g_autofree uint8_t *buf = g_malloc(size);
    QcSnapshot again;
    qc_snaptable_encode(s, id_len, buf);
    fuzz_require(qc_snaptable_decode(l, 1, buf, size, &again, &got_id, &got) == 0);
    fuzz_require(got == size && got_id == id_len && again.name_len == s->name_len);
    fuzz_require(memcmp(again.name, s->name, s->name_len) == 0);
    fuzz_require(memcmp(again.id, s->id, id_len) == 0);
    check_same(s, &again);
}

static void check_rename(const QcLayout *l, const QcSnapshot *s, size_t id_len, const uint8_t *raw,
                         size_t size)
{
    static const char name[] = "a/new\nname";
    g_autofree uint8_t *buf = g_malloc(size + strlen(name) + 8);
    QcSnapshot again;
    size_t got, got_id, made = qc_snaptable_rename(raw, name, strlen(name), buf);
    fuzz_require(made % 8 == 0 && made <= size + strlen(name) + 8);
    fuzz_require(qc_snaptable_decode(l, FALLBACK, buf, made, &again, &got_id, &got) == 0);
    fuzz_require(got == made && got_id == id_len && again.name_len == strlen(name));
    fuzz_require(memcmp(again.name, name, strlen(name)) == 0);
    fuzz_require(memcmp(again.id, s->id, id_len) == 0);
    check_same(s, &again);
}

static void check_reader(QcSnapReader *reader, int err, const QcSnapshot *s, size_t size)
{
    QcSnapshot other;
    size_t id_len, raw_size;
    const uint8_t *raw;
    int read_err = qc_snap_reader_next(reader, &other, &id_len, &raw, &raw_size);
    fuzz_require((err == 0) == (read_err == 0), "decode %d, reader %d", err, read_err);
    if (err)
        return;
    fuzz_require(raw_size <= size && raw_size + 8 > size);
    fuzz_require(other.name_len == s->name_len);
    check_same(s, &other);
}

static void walk(const QcLayout *l, const uint8_t *table, size_t len, QcSnapReader *reader)
{
    QcSnapshot s;
    size_t id_len, size;
    int err = 0;
    for (size_t at = 0; at < len && !err; at += size) {
        size = 0;
        err = qc_snaptable_decode(l, FALLBACK, table + at, len - at, &s, &id_len, &size);
        if (err == -ENODATA)
            fuzz_require(size > len - at);
        check_reader(reader, err, &s, size);
        if (err)
            continue;
        fuzz_require(size % 8 == 0 && s.disk_size <= QC_MAX_DISK_SIZE);
        check_encode(l, &s, id_len);
        check_rename(l, &s, id_len, table + at, size);
    }
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    uint64_t kind = fuzz_take(&in, 1);
    QcLayout l = {.version = kind & 1 ? 3 : 2, .refcount_order = 4};
    l.cluster_bits = QC_MIN_CLUSTER_BITS + (unsigned)(fuzz_take(&in, 1) % 13);

    MemFile *file = mem_file_new(in.at, in.left);
    file->short_io = kind & 2;
    QcSnapReader reader = {.file = mem_file(file), .layout = &l, .disk_size = FALLBACK};
    walk(&l, in.at, in.left, &reader);
    qc_snap_reader_clear(&reader);
    qc_file_unref(mem_file(file));
}
