/* What snapshots were shown as: of each file, the last few. */
#include "formerly.h"

#include <criterion/criterion.h>

static const QcFileStat one = {.dev = 1, .ino = 2, .btime = 3}, other = {.dev = 1, .ino = 4};

static void expect(Formerly *formerly, const QcFileStat *file, const char *shown, const char *part)
{
    g_autofree char *found = formerly_find(formerly, file, shown);

    cr_expect_eq(g_strcmp0(found, part), 0, "%s: %s", shown, found);
}

Test(formerly, what_was_noted_is_found)
{
    Formerly *formerly = formerly_new(3);
    const QcFileStat later = {.dev = 1, .ino = 2, .btime = 4};

    formerly_note(formerly, &one, "n~1", "a");
    formerly_note(formerly, &other, "n~1", "b");
    expect(formerly, &one, "n~1", "a");
    expect(formerly, &other, "n~1", "b");
    expect(formerly, &one, "n~2", NULL);
    expect(formerly, &later, "n~1", NULL);
    formerly_note(formerly, &one, "n~1", "c");
    expect(formerly, &one, "n~1", "c");
    formerly_forget(formerly, &one, "n~1");
    formerly_forget(formerly, &one, "n~1");
    expect(formerly, &one, "n~1", NULL);
    expect(formerly, &other, "n~1", "b");
    formerly_free(formerly);
}

/* As a command may come by another path than the one before. */
Test(formerly, a_device_is_the_same_by_each_of_its_nodes)
{
    Formerly *formerly = formerly_new(2);
    const QcFileStat node = {.dev = 1, .ino = 2, .btime = 3, .rdev = 7};
    const QcFileStat twin = {.dev = 1, .ino = 4, .btime = 5, .rdev = 7};

    formerly_note(formerly, &node, "n~1", "a");
    expect(formerly, &twin, "n~1", "a");
    formerly_forget(formerly, &twin, "n~1");
    expect(formerly, &node, "n~1", NULL);
    formerly_free(formerly);
}

Test(formerly, the_oldest_is_forgotten)
{
    Formerly *formerly = formerly_new(2);

    formerly_note(formerly, &one, "x", "a");
    formerly_note(formerly, &one, "y", "b");
    formerly_note(formerly, &one, "z", "c");
    expect(formerly, &one, "x", NULL);
    expect(formerly, &one, "y", "b");
    expect(formerly, &one, "z", "c");
    formerly_free(formerly);
}
