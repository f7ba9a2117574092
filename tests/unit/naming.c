/* What the names in a command mean: as snapshots are shown, as they were shown, and new ones. */
#include "naming.h"

#include <criterion/criterion.h>
#include <errno.h>

static const QcFileStat file = {.dev = 1, .ino = 2, .btime = 3};

static const QcSnapshot twice[] = {
    {.id = "1", .name = "n", .name_len = 1, .date_sec = 10, .l1_offset = 0x10000},
    {.id = "2", .name = "n", .name_len = 1, .date_sec = 20, .l1_offset = 0x20000},
    {.id = "3", .name = "other", .name_len = 5, .date_sec = 30, .l1_offset = 0x30000},
};

static Naming begin(Formerly *formerly, const QcInfo *info)
{
    Naming naming = {0};

    cr_assert_eq(naming_begin(&naming, formerly, &file, info, NULL), 0);
    return naming;
}

/* wanted: the index; -ENOENT: none. */
static void expect_found(const Naming *naming, const char *arg, int wanted)
{
    g_autoptr(GError) error = NULL;
    unsigned index = 0;
    int r = naming_find(naming, arg, &index, &error);

    cr_expect_eq(r < 0 ? r : (int)index, wanted, "%s: %d, %u", arg, r, index);
    cr_expect_eq(error != NULL, r < 0, "%s", arg);
}

static void expect_chosen(const Naming *naming, unsigned renamed, const char *arg, int wanted)
{
    g_autofree char *name = NULL;

    cr_expect_eq(naming_choose(naming, renamed, arg, &name, NULL), wanted, "%s", arg);
}

Test(naming, a_name_of_several_is_none_and_says_which)
{
    Formerly *formerly = formerly_new(4);
    const QcInfo info = {.snapshots = twice, .n_snapshots = 3};
    g_auto(Naming) naming = begin(formerly, &info);
    g_autoptr(GError) error = NULL;
    unsigned index;

    expect_found(&naming, "n~1", 0);
    expect_found(&naming, "n~2", 1);
    expect_found(&naming, "other", 2);
    expect_found(&naming, "n~3", -ENOENT);
    cr_expect_eq(naming_find(&naming, "n", &index, &error), -ENOENT);
    cr_expect_str_eq(error->message,
                     "this image has 2 snapshots of that name, and shows them as 'n~1', 'n~2'");
    formerly_free(formerly);
}

Test(naming, what_the_others_were_shown_as_is_found)
{
    Formerly *formerly = formerly_new(4);
    const QcInfo before = {.snapshots = twice, .n_snapshots = 3};
    const QcInfo after = {.snapshots = twice + 1, .n_snapshots = 2};
    g_auto(Naming) first = begin(formerly, &before), next = begin(formerly, &after);

    expect_found(&next, "n", 0);
    expect_found(&next, "n~2", -ENOENT);
    naming_note_former(&first, 0);
    expect_found(&next, "n~2", 0);
    expect_found(&next, "n~1", -ENOENT);
    formerly_free(formerly);
}

/* Whichever of what tells snapshots apart is different. */
Test(naming, another_snapshot_is_not_what_was_shown)
{
    const QcInfo before = {.snapshots = twice, .n_snapshots = 3};

    for (unsigned i = 0; i < 5; i++) {
        Formerly *formerly = formerly_new(4);
        QcSnapshot other = twice[1];
        const QcInfo after = {.snapshots = &other, .n_snapshots = 1};

        other.date_sec += i == 1;
        other.date_nsec += i == 2;
        other.l1_offset += i == 3 ? 0x10000 : 0;
        other.id = i == 4 ? "4" : other.id;
        g_auto(Naming) first = begin(formerly, &before), next = begin(formerly, &after);
        naming_note_former(&first, 0);
        expect_found(&next, "n~2", i == 0 ? 0 : -ENOENT);
        formerly_free(formerly);
    }
}

/* By a program that says nothing of it. */
Test(naming, a_name_that_was_given_anew_is_not_what_was_shown)
{
    Formerly *formerly = formerly_new(4);
    const QcInfo before = {.snapshots = twice, .n_snapshots = 3};
    const QcInfo after = {.snapshots = twice + 1, .n_snapshots = 2};
    g_auto(Naming) first = begin(formerly, &before), next = begin(formerly, &after);

    naming_note_former(&first, 0);
    expect_found(&next, "n~2", 0);
    expect_found(&first, "n~2", 1);
    expect_found(&next, "n~2", -ENOENT);
    formerly_free(formerly);
}

Test(naming, a_name_that_is_given_anew_is_not_what_was_shown)
{
    Formerly *formerly = formerly_new(4);
    const QcInfo before = {.snapshots = twice, .n_snapshots = 3};
    const QcInfo after = {.snapshots = twice + 1, .n_snapshots = 2};
    g_auto(Naming) first = begin(formerly, &before), next = begin(formerly, &after);

    naming_note_former(&first, 0);
    expect_chosen(&next, NAMING_NONE, "n~2", 0);
    expect_found(&next, "n~2", -ENOENT);
    formerly_free(formerly);
}

Test(naming, a_new_name_is_nobody_elses)
{
    Formerly *formerly = formerly_new(4);
    const QcInfo info = {.snapshots = twice, .n_snapshots = 3};
    g_auto(Naming) naming = begin(formerly, &info);

    expect_chosen(&naming, NAMING_NONE, "new", 0);
    expect_chosen(&naming, NAMING_NONE, "other", -EEXIST);
    expect_chosen(&naming, NAMING_NONE, "n~1", -EEXIST);
    expect_chosen(&naming, 0, "n~1", 0);
    expect_chosen(&naming, 1, "n~1", -EEXIST);
    expect_chosen(&naming, NAMING_NONE, "a%00b", -EINVAL);
    formerly_free(formerly);
}
