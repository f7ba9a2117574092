/*
 * A block device that another machine writes to: what this one remembers of it may be older, and is
 * forgotten where that matters.
 */
#include "checked.h"
#include "craft.h"
#include "disturbed.h"
#include "staleness.h"
#include <errno.h>
#include <string.h>

enum {
    DEVICE_BYTES = 4 << 20,
};

static const Kind kind = {"v3-4k", 3, 12, 16, false};

/* The device of this machine, which remembers all of it as it was, and what is on it by now. */
typedef struct Device {
    MemFile *file, *medium;
} Device;

static void make_device(MemFile *file)
{
    guint old = file->data->len;
    cr_assert_leq(old, DEVICE_BYTES);
    g_byte_array_set_size(file->data, DEVICE_BYTES);
    memset(file->data->data + old, 0, DEVICE_BYTES - old);
    file->device = true;
    file->max_size = DEVICE_BYTES;
}

static Device new_device(void)
{
    MemFile *file = prepared(&kind);
    make_device(file);
    Device d = {file, mem_file_copy(file)};
    make_device(d.medium);
    file->medium = d.medium;
    return d;
}

static void free_device(Device *d)
{
    qc_file_unref(mem_file(d->file));
    qc_file_unref(mem_file(d->medium));
}

/* The other machine does this. */
static void elsewhere(const Device *d, const Step *command)
{
    bool unknown;
    cr_assert_eq(0, script_run(d->medium, command, &unknown));
}

static const Step commands[] = {
    {.kind = STEP_TAKE, .name = "two"},
    {.kind = STEP_REVERT},
    {.kind = STEP_DELETE},
    {.kind = STEP_RENAME, .name = "eins"},
    {.kind = STEP_WRITE, .offset = 5000, .len = 100000, .seed = 3},
    {.kind = STEP_REPAIR},
};

/* What makes another command possible, whatever that is. */
static const Step theirs[] = {
    {.kind = STEP_TAKE, .name = "theirs"},
    {.kind = STEP_RENAME, .name = "theirs"},
    {.kind = STEP_WRITE, .len = 200000, .seed = 4},
};

static void expect_same_snapshots(const QcInfo *a, const QcInfo *b)
{
    cr_assert_eq(a->n_snapshots, b->n_snapshots);
    for (unsigned i = 0; i < a->n_snapshots; i++)
        cr_expect_str_eq(a->snapshots[i].name, b->snapshots[i].name);
}

Test(device, an_image_is_opened_as_it_is_by_now)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        Device d = new_device();
        QcFormat format;
        elsewhere(&d, &commands[i]);
        memset(d.file->data->data, 0, 512); /* as if there had been no image */
        cr_assert_eq(0, qc_probe(mem_file(d.file), "sda", &format, NULL));
        cr_expect_eq(format, QC_FORMAT_QCOW2);
        memset(d.file->data->data, 0, 512);
        g_auto(Opened) here = opened_new(mem_file(d.file), NULL);
        g_auto(Opened) there = opened_new(mem_file(d.medium), NULL);
        expect_same_snapshots(qc_image_info(here.image), qc_image_info(there.image));
        free_device(&d);
    }
}

/* The header may be longer than the sector that is compared. */
Test(device, all_of_the_header_is_that_of_now)
{
    static const char name[] = "theirs";
    enum { AT = 600 };
    Device d = new_device();
    mem_file_put_word(d.medium, offsetof(QcDiskHeader, backing_file_offset), AT);
    d.medium->data->data[19] = sizeof(name) - 1;
    memcpy(d.medium->data->data + AT, name, sizeof(name) - 1);
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    cr_expect_str_eq(qc_image_info(o.image)->backing_file, name);
    free_device(&d);
}

Test(device, its_bitmaps_are_those_of_now)
{
    MemFile *crafted = script_image(&kind, 300 * 1024); /* without a table of snapshots */
    Device d = new_device();
    craft_bitmap(crafted);
    make_device(crafted);
    mem_file_assign(d.medium, crafted);
    memcpy(d.file->data->data, crafted->data->data, 4096); /* the header is known */
    g_auto(Opened) here = opened_new(mem_file(d.file), NULL);
    g_auto(Opened) there = opened_new(mem_file(d.medium), NULL);
    cr_assert_eq(1, qc_image_info(here.image)->n_bitmaps);
    cr_expect_str_eq(qc_image_info(here.image)->bitmaps[0].name,
                     qc_image_info(there.image)->bitmaps[0].name);
    qc_file_unref(mem_file(crafted));
    free_device(&d);
}

/* Neither does a command rest on what this machine remembers ... */
Test(device, a_command_begins_with_what_is_there)
{
    for (size_t t = 0; t < G_N_ELEMENTS(theirs); t++) {
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
            Device d = new_device();
            bool unknown;
            elsewhere(&d, &theirs[t]);
            MemFile *alone = mem_file_copy(d.medium);
            cr_assert_eq(0, script_run(alone, &commands[i], &unknown));
            g_autofree char *want = judge_digest(alone);
            cr_expect_eq(0, script_run(d.file, &commands[i], &unknown), "%zu, %zu", t, i);
            expect_clean(d.medium, want);
            qc_file_unref(mem_file(alone));
            free_device(&d);
        }
    }
}

/* ... nor a check. */
Test(device, a_check_is_of_what_is_there)
{
    Device d = new_device();
    elsewhere(&d, &commands[0]);
    QcCheck result = check(d.file);
    cr_expect_eq(result.errors + result.leaks, 0, "%s", result.first);
    free_device(&d);
}

/* ---- while it is opened ------------------------------------------------------------------- */

static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    const Device *device; /* NULL: it has happened */
} opening;

/* Another machine replaces the snapshot, and uses the place of the old table, once the header was
 * read. */
static ssize_t read_and_be_overtaken(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    const Device *d = opening.device;
    ssize_t n = opening.usual->pread(file, buf, len, offset);
    if (!d || offset > 0)
        return n;
    uint64_t table = mem_file_word(d->medium, offsetof(QcDiskHeader, snapshots_offset));
    opening.device = NULL;
    elsewhere(d, &commands[0]);
    elsewhere(d, &(Step){.kind = STEP_DELETE});
    memset(d->medium->data->data + table, 0, 4096);
    return n;
}

Test(device, an_image_is_of_one_moment)
{
    Device d = new_device();
    opening.device = &d;
    opening.usual = d.file->base.ops;
    opening.ops = *opening.usual;
    opening.ops.pread = read_and_be_overtaken;
    d.file->base.ops = &opening.ops;
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    cr_expect_null(opening.device);
    cr_assert_eq(1, qc_image_info(o.image)->n_snapshots);
    cr_expect_str_eq(qc_image_info(o.image)->snapshots[0].name, "two");
    d.file->base.ops = opening.usual;
    free_device(&d);
}

/* ---- while a command runs ----------------------------------------------------------------- */

static void write_elsewhere(MemFile *file)
{
    change_first_sector(file->medium->data->data);
}

Test(device, a_header_that_changes_meanwhile_stays)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        for (unsigned after = 1; after <= 3; after += 2) { /* before it is written, or switched */
            Device d = new_device();
            uint8_t sector[QC_SECTOR];
            bool unknown;
            if (commands[i].kind == STEP_REPAIR) {
                craft_leak(d.file);
                craft_leak(d.medium);
            }
            memcpy(sector, d.medium->data->data, sizeof(sector));
            change_first_sector(sector);
            invite_stranger(d.file, write_elsewhere, after);
            cr_expect_eq(-EBUSY, script_run(d.file, &commands[i], &unknown), "%zu, %u", i, after);
            cr_expect_eq(0, memcmp(sector, d.medium->data->data, sizeof(sector)), "%zu, %u", i,
                         after);
            free_device(&d);
        }
    }
}

/* ---- while it is read --------------------------------------------------------------------- */

Test(device, a_disk_that_has_changed_is_another_one)
{
    Device d = new_device();
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    elsewhere(&d, &commands[0]);
    cr_expect_eq(-ESTALE, qc_view_check(o.view));
    free_device(&d);
}

Test(device, a_snapshot_lasts_until_it_is_deleted)
{
    for (unsigned deleted = 0; deleted < 2; deleted++) {
        Device d = new_device();
        g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
        QcView *view;
        cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
        elsewhere(&d, &(Step){.kind = deleted ? STEP_DELETE : STEP_RENAME, .name = "eins"});
        cr_expect_eq(deleted ? -ESTALE : 0, qc_view_check(view));
        qc_view_unref(view);
        free_device(&d);
    }
}

/* The header need not say so: entries are compared each time. */
Test(device, a_snapshot_whose_entry_is_written_over_is_another_one)
{
    Device d = new_device();
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    QcView *view;
    cr_assert_eq(0, qc_chain_snapshot_view(o.chain, 0, &view));
    d.medium->data->data[o.image->header.snapshots_offset + 19] ^= 1; /* its date */
    cr_expect_eq(-ESTALE, qc_view_check(view));
    qc_view_unref(view);
    free_device(&d);
}

Test(device, one_of_another_size_is_another_one)
{
    Device d = new_device();
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    d.file->medium = NULL;
    cr_assert_eq(0, qc_view_check(o.view));
    g_byte_array_set_size(d.file->data, DEVICE_BYTES / 2);
    cr_expect_eq(-ESTALE, qc_view_check(o.view));
    free_device(&d);
}

/* No time tells when a device was written to. */
Test(device, nothing_that_was_read_is_remembered)
{
    Device d = new_device();
    g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
    uint64_t l1 = o.image->header.l1_offset, l2 = mem_file_word(d.file, l1) & QC_OFFSET_MASK;
    uint8_t byte;
    cr_assert_eq(1, qc_view_read(o.view, &byte, 1, 0));
    cr_assert_neq(byte, 0);
    mem_file_put_word(d.file, l2, 0);
    cr_assert_eq(1, qc_view_read(o.view, &byte, 1, 0));
    cr_expect_eq(byte, 0);
    free_device(&d);
}

/* An entry that is found where it was is looked at anew, too. */
Test(device, an_entry_that_is_written_over_is_noticed)
{
    for (unsigned hinted = 0; hinted < 2; hinted++) {
        Device d = new_device();
        QcSnapshotHint hint = {0};
        g_auto(Opened) o = opened_new(mem_file(d.file), NULL);
        if (hinted)
            cr_assert_eq(0, qc_image_find_snapshot(o.image, 0, &hint));
        d.medium->data->data[o.image->header.snapshots_offset + 19] ^= 1; /* its date */
        qc_image_refresh(o.image, &hint);
        cr_expect_eq(-ESTALE, qc_image_find_snapshot(o.image, 0, &hint));
        free_device(&d);
    }
}

static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    uint64_t table; /* 0: it has happened */
} seeking;

/* The second entry of the table is cleared when the table has been read. */
static ssize_t read_and_lose_an_entry(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = seeking.usual->pread(file, buf, len, offset);
    if (offset == seeking.table) {
        mem_file_put_word((MemFile *)file, offset + 8, 0);
        seeking.table = 0;
    }
    return n;
}

/* Two clusters that lie apart in the file: for each the table is asked anew. */
Test(device, a_search_asks_the_table_for_each_extent)
{
    enum { CLUSTER = 4096 };
    MemFile *file = script_image(&kind, 8 * CLUSTER);
    bool unknown;
    for (unsigned i = 2; i-- > 0;) {
        Step write = {.kind = STEP_WRITE, .offset = i * CLUSTER, .len = CLUSTER, .seed = 1};
        cr_assert_eq(0, script_run(file, &write, &unknown));
    }
    make_device(file);
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_assert_eq(2 * CLUSTER, qc_view_seek(o.view, 0, true));
    seeking.table = mem_file_word(file, o.image->header.l1_offset) & QC_OFFSET_MASK;
    seeking.usual = file->base.ops;
    seeking.ops = *seeking.usual;
    seeking.ops.pread = read_and_lose_an_entry;
    file->base.ops = &seeking.ops;
    cr_expect_eq(CLUSTER, qc_view_seek(o.view, 0, true));
    cr_expect_eq(seeking.table, 0);
    file->base.ops = seeking.usual;
    qc_file_unref(mem_file(file));
}
