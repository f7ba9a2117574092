/*
 * Whether a snapshot still stands in a file that others change: whatever else changes, and no
 * longer than it is the very same one.
 */
#include "format.h"
#include "opened.h"
#include "script.h"
#include "staleness.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* An image that stays open while its file changes. */
typedef struct Standing {
    MemFile *file;
    Opened opened;
    QcSnapshotHint hint;
} Standing;

/* An image with a backing file (that nobody opens) and the snapshots "one" and "two". */
static Standing new_standing(void)
{
    static const Step history[] = {
        {.kind = STEP_TAKE, .name = "one"},
        {.kind = STEP_TAKE, .name = "two"},
    };
    QcCreateOptions options = {.virtual_size = 1 << 20,
                               .cluster_bits = 12,
                               .backing_file = "base",
                               .backing_format = "raw"};
    Standing s = {.file = mem_file_new(NULL, 0)};
    bool unknown;
    cr_assert_eq(0, qc_create(mem_file(s.file), &options, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(history); i++)
        cr_assert_eq(0, script_run(s.file, &history[i], &unknown));
    s.opened = opened_new(mem_file(s.file), NULL);
    cr_assert_eq(0, qc_image_find_snapshot(s.opened.image, 0, &(QcSnapshotHint){0}));
    return s;
}

static void free_standing(Standing *s)
{
    opened_clear(&s->opened);
    qc_file_unref(mem_file(s->file));
}

/* What becomes of the first snapshot: with a hint from before, and without. */
static void expect(const Standing *s, int result, const char *what)
{
    QcSnapshotHint hint = s->hint;
    cr_expect_eq(result, qc_image_find_snapshot(s->opened.image, 0, &hint), "%s", what);
    cr_expect_eq(result, qc_image_find_snapshot(s->opened.image, 0, &(QcSnapshotHint){0}), "%s",
                 what);
}

Test(standing, commands_on_others_change_nothing)
{
    static const struct {
        Step command;
        int result;
    } cases[] = {
        {{.kind = STEP_TAKE, .name = "three"}, 0},
        {{.kind = STEP_RENAME, .snapshot = 0, .name = "eins"}, 0},
        {{.kind = STEP_DELETE, .snapshot = 1}, 0},
        {{.kind = STEP_REVERT, .snapshot = 1}, 0},
        {{.kind = STEP_DELETE, .snapshot = 0}, -ESTALE},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Standing s = new_standing();
        bool unknown;
        cr_assert_eq(0, qc_image_find_snapshot(s.opened.image, 0, &s.hint));
        cr_assert_eq(0, script_run(s.file, &cases[i].command, &unknown));
        g_autofree char *what = g_strdup_printf("command %zu", i);
        expect(&s, cases[i].result, what);
        free_standing(&s);
    }
}

/* Bytes that make it another snapshot, or its image another image: where, counted from what. */
Test(standing, it_is_known_by_all_that_matters)
{
    enum { HEADER, ENTRY, NAME, FORMAT };
    static const struct {
        const char *what;
        int from;
        size_t at;
        int result;
    } cases[] = {
        {"the L1 table's place", ENTRY, 6, -ESTALE},
        {"the L1 table's length", ENTRY, 11, -ESTALE},
        {"the date", ENTRY, 19, -ESTALE},
        {"its nanoseconds", ENTRY, 23, -ESTALE},
        {"the id", ENTRY, 40 + 24, -ESTALE},
        {"the disk's size", ENTRY, 40 + 13, -ESTALE},
        {"the name", ENTRY, 40 + 24 + 1, 0},
        {"the size of the active disk", HEADER, 29, 0},
        {"the place of the backing file's name", HEADER, 15, -ESTALE},
        {"the cluster size", HEADER, 23, -ESTALE},
        {"the backing file's name", NAME, 0, -ESTALE},
        {"the backing file's format", FORMAT, 0, -ESTALE},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Standing s = new_standing();
        const QcHeader *h = &s.opened.image->header;
        const uint64_t from[] = {0, h->snapshots_offset, h->backing_offset, h->backing_format_at};
        cr_assert_eq(0, qc_image_find_snapshot(s.opened.image, 0, &s.hint));
        s.file->data->data[from[cases[i].from] + cases[i].at] ^= 0x10;
        expect(&s, cases[i].result, cases[i].what);
        free_standing(&s);
    }
}

/* The file becomes another one after the header was read; what it referred to is still there. */
static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    MemFile *then; /* NULL: it has been */
} changing;

static ssize_t read_and_change(QcFile *file, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = changing.usual->pread(file, buf, len, offset);
    if (changing.then && offset == 0) {
        QcDiskHeader d;
        memcpy(&d, changing.then->data->data, sizeof(d));
        memcpy(((MemFile *)file)->data->data, &d, QC_V2_HEADER_LENGTH);
        changing.then = NULL;
    }
    return n;
}

Test(standing, header_and_entry_are_of_one_moment)
{
    Standing s = new_standing();
    MemFile *then = mem_file_copy(s.file);
    bool unknown;
    cr_assert_eq(0, script_run(then, &(Step){.kind = STEP_DELETE, .snapshot = 0}, &unknown));
    /* Only the header is changed here: the new table is put where that says it is. */
    uint64_t at = mem_file_word(then, offsetof(QcDiskHeader, snapshots_offset));
    g_byte_array_set_size(s.file->data, MAX(s.file->data->len, then->data->len));
    memcpy(s.file->data->data + at, then->data->data + at, 4096);
    changing.usual = s.file->base.ops;
    changing.ops = *changing.usual;
    changing.ops.pread = read_and_change;
    changing.then = then;
    s.file->base.ops = &changing.ops;
    cr_expect_eq(-ESTALE, qc_image_find_snapshot(s.opened.image, 0, &(QcSnapshotHint){0}));
    cr_expect_null(changing.then);
    s.file->base.ops = changing.usual;
    qc_file_unref(mem_file(then));
    free_standing(&s);
}
