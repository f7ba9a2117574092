/*
 * Somebody who ignores the locks changes the image while a command runs. What he wrote stays: the
 * first sector is looked at before it is written, the first time and when the command is done, and
 * a file that is not what it was is not cut off.
 */
#include "checked.h"
#include "craft.h"
#include "disturbed.h"
#include "format.h"
#include <errno.h>
#include <string.h>

enum {
    THEIR_BYTES = 5000, /* behind what was the end */
    MARK = 0xa5,
    SNAPSHOTS = 100,
    NAME_BYTES = 30,
};

static guint their_end; /* of the file, by what the stranger wrote */

static void write_as_stranger(MemFile *file)
{
    guint end = file->data->len;
    change_first_sector(file->data->data);
    g_byte_array_set_size(file->data, end + THEIR_BYTES);
    memset(file->data->data + end, MARK, THEIR_BYTES);
    their_end = file->data->len;
}

static const Step commands[] = {
    {.kind = STEP_TAKE, .name = "two"},
    {.kind = STEP_REVERT},
    {.kind = STEP_DELETE},
    {.kind = STEP_RENAME, .name = "eins"},
    {.kind = STEP_REPAIR},
    {.kind = STEP_WRITE, .len = 1000, .seed = 3},
};

static void expect_left_alone(const Kind *kind, const Step *command, unsigned after)
{
    MemFile *file = prepared(kind);
    uint8_t sector[QC_SECTOR];
    bool unknown;
    if (command->kind == STEP_REPAIR)
        craft_leak(file);
    memcpy(sector, file->data->data, sizeof(sector));
    change_first_sector(sector);
    invite_stranger(file, write_as_stranger, after);
    int err = script_run(file, command, &unknown);
    cr_expect_eq(err, -EBUSY, "%s command %d: %d", kind->name, command->kind, err);
    cr_expect_not(unknown);
    cr_expect_eq(0, memcmp(sector, file->data->data, sizeof(sector)), "%s command %d, %u",
                 kind->name, command->kind, after);
    cr_expect_eq(file->data->len, their_end, "%s command %d: %u", kind->name, command->kind,
                 file->data->len);
    cr_expect_eq(file->data->data[file->data->len - 1], MARK);
    qc_file_unref(mem_file(file));
}

/* The syncs: of what was read; of the old sector, written once more; of what is new. */
Test(stranger, what_he_wrote_before_the_first_write_stays)
{
    for (size_t i = 0; i < script_n_kinds; i++)
        for (size_t c = 0; c < G_N_ELEMENTS(commands); c++)
            expect_left_alone(&script_kinds[i], &commands[c], 1);
}

Test(stranger, what_he_wrote_before_the_switch_stays)
{
    for (size_t i = 0; i < script_n_kinds; i++)
        for (size_t c = 0; c < G_N_ELEMENTS(commands); c++)
            expect_left_alone(&script_kinds[i], &commands[c], 3);
}

static void spoil_the_next_call(MemFile *file)
{
    file->fail_at = file->calls;
    file->fail_error = -EIO;
}

/* A sector that cannot be looked at may be somebody else's. */
Test(stranger, what_cannot_be_seen_before_the_switch_stays)
{
    for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
        MemFile *file = prepared(&script_kinds[4]);
        uint8_t sector[QC_SECTOR];
        bool unknown;
        if (commands[c].kind == STEP_REPAIR)
            craft_leak(file);
        memcpy(sector, file->data->data, sizeof(sector));
        invite_stranger(file, spoil_the_next_call, 3);
        cr_expect_eq(-EIO, script_run(file, &commands[c], &unknown), "command %zu", c);
        cr_expect_eq(0, memcmp(sector, file->data->data, sizeof(sector)), "command %zu", c);
        qc_file_unref(mem_file(file));
    }
}

/* Let each snapshot have a longer name instead of extra data: the table is as long as before, and
 * says no more how large the disks were. */
static void forget_sizes(MemFile *file)
{
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset));
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        QcDiskSnapshot d;
        memcpy(&d, file->data->data + at, sizeof(d));
        uint32_t extra = be32_get(d.extra_data_size);
        unsigned id = be16_get(d.id_size), name = be16_get(d.name_size);
        d.extra_data_size = be32_make(0);
        d.name_size = be16_make((uint16_t)(name + extra));
        memcpy(file->data->data + at, &d, sizeof(d));
        at += qc_padded(sizeof(d) + extra + id + name);
    }
}

/* Let the last snapshot have a name that is as long as it can be. */
static void lengthen_last_name(MemFile *file)
{
    uint64_t at = mem_file_word(file, offsetof(QcDiskHeader, snapshots_offset)), last = at;
    guint end = file->data->len;
    QcDiskSnapshot d;
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        last = at;
        memcpy(&d, file->data->data + at, sizeof(d));
        at += qc_padded(sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.id_size) +
                        be16_get(d.name_size));
    }
    d.name_size = be16_make(UINT16_MAX);
    memcpy(file->data->data + last, &d, sizeof(d));
    g_byte_array_set_size(file->data, end + UINT16_MAX);
    memset(file->data->data + end, 0, UINT16_MAX);
}

/* An entry that gets a size takes more room than it had; so does one with a longer name. */
static void expect_too_long(const Step *command, void (*deed)(MemFile *))
{
    static const Kind kind = {"v3-4k", 3, 12, 16, false};
    MemFile *file = prepared(&kind);
    bool unknown;
    craft_snapshots(file, SNAPSHOTS, NAME_BYTES, false);
    invite_stranger(file, deed, 1);
    int err = script_run(file, command, &unknown);
    cr_expect_eq(err, -EUCLEAN, "command %d: %d", command->kind, err);
    qc_file_unref(mem_file(file));
}

Test(stranger, a_snapshot_table_that_has_come_to_need_more_room_is_refused)
{
    for (size_t c = 0; c < G_N_ELEMENTS(commands); c++) {
        StepKind kind = commands[c].kind;
        if (kind == STEP_TAKE || kind == STEP_DELETE || kind == STEP_RENAME) {
            expect_too_long(&commands[c], forget_sizes);
            expect_too_long(&commands[c], lengthen_last_name);
        }
    }
}
