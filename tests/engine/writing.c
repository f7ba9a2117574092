/* Guest writes: the bytes that are to change do, all others stay, and else nothing is changed. */
#include "checked.h"
#include "craft.h"
#include <errno.h>
#include <string.h>

static const Kind small = {"v3-512-64bit", 3, 9, 64, false};

enum {
    SMALL = 512, /* its clusters; an L2 table has 64 of them */
    TABLE = 64 * SMALL,
};

/* The disk (g_free). */
static uint8_t *read_disk(MemFile *file)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    uint64_t size = script_size(file);
    uint8_t *disk = g_malloc(size);
    cr_assert_eq((ssize_t)size, qc_view_read(o.view, disk, size, 0));
    return disk;
}

static int write_to(MemFile *file, uint64_t offset, uint64_t len)
{
    Step write = {.kind = STEP_WRITE, .offset = offset, .len = len, .seed = 0xaa};
    bool unknown;
    return script_run(file, &write, &unknown);
}

/* Whether the disk is what it was (disk), but for what write_to() writes. */
static void expect_written(MemFile *file, const uint8_t *disk, uint64_t offset, uint64_t len)
{
    static const Step write = {.seed = 0xaa};
    uint64_t size = script_size(file), i = 0;
    g_autofree uint8_t *now = read_disk(file);
    for (; i < size; i++) {
        bool inside = i >= offset && i - offset < len;
        if (now[i] != (inside ? step_byte(&write, i - offset) : disk[i]))
            break;
    }
    cr_expect_eq(i, size,
                 "%" G_GUINT64_FORMAT " from %" G_GUINT64_FORMAT ": byte %" G_GUINT64_FORMAT, len,
                 offset, i);
}

/* At and around the edges of clusters and of tables, in what is allocated and what is not. */
Test(writing, all_bytes_of_a_write_and_no_others_change)
{
    static const uint64_t edges[] = {0, SMALL, 3 * SMALL, TABLE, 200 * SMALL, 7 * TABLE};
    static const uint64_t lengths[] = {1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, TABLE + 1};
    MemFile *before = prepared(&small);
    g_autofree uint8_t *disk = read_disk(before);
    for (size_t e = 0; e < G_N_ELEMENTS(edges); e++) {
        for (size_t k = 0; k < 3 * G_N_ELEMENTS(lengths); k++) {
            uint64_t offset = edges[e] + k % 3, len = lengths[k / 3];
            offset -= offset > 0; /* one before it, at it, one behind */
            MemFile *file = mem_file_copy(before);
            cr_assert_eq(0, write_to(file, offset, len));
            expect_written(file, disk, offset, len);
            qc_file_unref(mem_file(file));
        }
    }
    qc_file_unref(mem_file(before));
}

Test(writing, the_last_byte_of_a_disk_is_the_last_that_is_written)
{
    MemFile *before = prepared(&small);
    g_autofree uint8_t *disk = read_disk(before);
    uint64_t size = script_size(before);
    for (uint64_t len = 1; len < 3; len++) {
        MemFile *file = mem_file_copy(before);
        cr_expect_eq(0, write_to(file, size - len, len));
        expect_written(file, disk, size - len, len);
        cr_expect_eq(-EINVAL, write_to(file, size - len, len + 1));
        cr_expect_eq(-EINVAL, write_to(file, size + 1, len));
        qc_file_unref(mem_file(file));
    }
    qc_file_unref(mem_file(before));
}

/* What is around the new bytes is not known when it cannot be read: it does not become zeros. */
Test(writing, storage_that_fails_changes_no_other_byte)
{
    enum { OFFSET = 3 * SMALL + 100, LEN = 100 };
    MemFile *before = prepared(&small);
    g_autofree uint8_t *disk = read_disk(before);
    bool reached = true;
    for (int64_t n = 0; reached; n++) {
        MemFile *file = mem_file_copy(before);
        file->fail_at = n;
        file->fail_error = -EIO;
        int err = write_to(file, OFFSET, LEN);
        reached = file->calls > n;
        file->fail_at = -1;
        g_autofree uint8_t *now = read_disk(file);
        if (err == 0 || memcmp(now, disk, script_size(file)) != 0)
            expect_written(file, disk, OFFSET, LEN);
        qc_file_unref(mem_file(file));
    }
    qc_file_unref(mem_file(before));
}

/* The rest of the last cluster would be read when the disk gets larger. */
Test(writing, what_is_behind_the_end_of_the_disk_is_zeros)
{
    enum { SIZE = 300 * 1024, LARGER = 5 * 65536, LEN = 50 * 1024 };
    MemFile *file = prepared_of_size(&script_kinds[1], SIZE); /* 64 KiB clusters */
    cr_assert_eq(0, write_to(file, SIZE - LEN - 1, LEN));
    craft_resize(file, LARGER);
    g_autofree uint8_t *disk = read_disk(file);
    for (size_t i = SIZE; i < LARGER; i++)
        cr_assert_eq(0, disk[i]);
    qc_file_unref(mem_file(file));
}
