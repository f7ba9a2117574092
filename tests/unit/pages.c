/* Which pages of a node may be kept, and whether the kernel reads its file by itself. */
#include "pages.h"

#include <criterion/criterion.h>

static Pages *pages;

static void set_up(void)
{
    pages = pages_new();
}

static void tear_down(void)
{
    pages_free(pages);
}

TestSuite(pages, .init = set_up, .fini = tear_down);

/* How the kernel is to read a file that is opened now. */
static PagesUse open_as(const char *what, const char *identity, uint64_t size)
{
    int passed = 0;
    const PagesContent content = {.what = what, .identity = identity, .size = size};
    PagesUse use = pages_open(pages, &content, &passed);

    cr_expect_eq(passed, 0);
    return use;
}

static PagesUse open_it(const char *identity)
{
    return open_as("it", identity, 1000);
}

static void close_as(PagesUse use)
{
    cr_expect_eq(pages_close(pages, use), 0);
}

static void open_and_close(const char *identity, PagesUse expected)
{
    PagesUse use = open_it(identity);

    cr_expect_eq(use, expected);
    close_as(use);
}

Test(pages, are_kept_only_for_the_same_bytes)
{
    cr_expect_eq(open_it("one"), PAGES_NEW);
    cr_expect_eq(open_it("one"), PAGES_NEW, "nothing was read yet");
    pages_settled(pages);
    cr_expect_eq(open_it("one"), PAGES_KEEP);
    for (int i = 0; i < 3; i++)
        close_as(PAGES_NEW);

    open_and_close("two", PAGES_NEW);
    cr_expect_eq(open_it("two"), PAGES_KEEP);
    pages_spoil(pages);
    open_and_close("two", PAGES_NEW);
    close_as(PAGES_KEEP);
    open_and_close("two", PAGES_NEW);
    open_and_close(NULL, PAGES_NEW);
    open_and_close(NULL, PAGES_NEW); /* NULL equals nothing */
}

/* That the pages from before the first content are gone says nothing of those of the first. */
Test(pages, of_another_content_nothing_was_read_yet)
{
    open_and_close("one", PAGES_NEW);
    cr_expect_eq(open_it("two"), PAGES_NEW);
    cr_expect_eq(open_it("two"), PAGES_NEW);
    pages_settled(pages);
    cr_expect_eq(open_it("two"), PAGES_KEEP);
    for (int i = 0; i < 3; i++)
        close_as(PAGES_NEW);
}

Test(pages, of_two_states_at_a_time_nothing_is_kept)
{
    cr_expect_eq(open_it("one"), PAGES_NEW);
    pages_settled(pages);
    cr_expect_eq(open_it("two"), PAGES_NEW);
    pages_settled(pages);
    open_and_close("one", PAGES_NEW);
    open_and_close("two", PAGES_NEW);
    close_as(PAGES_NEW);
    close_as(PAGES_NEW);
    open_and_close("two", PAGES_NEW);
    open_and_close("two", PAGES_KEEP);
}

Test(pages, show_one_thing_at_a_time)
{
    cr_expect_eq(open_it("one"), PAGES_NEW);
    cr_expect_not(pages_leave_if_resized(pages, 1000));
    cr_expect_eq(open_as("that", "two", 1000), PAGES_STALE);
    cr_expect(pages_leave_if_resized(pages, 1000), "left for good");
    close_as(PAGES_NEW);
    cr_expect(pages_leave_if_resized(pages, 1000));
    open_and_close("one", PAGES_KEEP);
}

Test(pages, are_left_only_for_something_else)
{
    const PagesContent it = {.what = "it", .size = 1000}, that = {.what = "that", .size = 1000};

    pages_leave_if_other(NULL, &that);
    pages_leave_if_other(pages, &that);
    cr_expect_eq(open_it("one"), PAGES_NEW);
    pages_leave_if_other(pages, &it);
    cr_expect_not(pages_leave_if_resized(pages, 1000));
    pages_leave_if_other(pages, &that);
    cr_expect(pages_leave_if_resized(pages, 1000));
    close_as(PAGES_NEW);
}

Test(pages, have_the_size_of_what_is_open)
{
    uint64_t size;

    cr_expect_not(pages_size(NULL, &size));
    cr_expect_not(pages_leave_if_resized(NULL, 1));
    cr_expect_not(pages_size(pages, &size));
    cr_expect_not(pages_leave_if_resized(pages, 1));
    cr_expect_eq(open_it("one"), PAGES_NEW);
    cr_expect(pages_size(pages, &size));
    cr_expect_eq(size, 1000);
    cr_expect_eq(open_as("it", "two", 500), PAGES_STALE);
    close_as(PAGES_NEW);
    cr_expect_not(pages_size(pages, &size));
}

/* ---- files that the kernel reads by itself ------------------------------------------------ */

/*
 * Open the node's file, or another, with a number, 0: none; returns the number that it is passed
 * by, which is then the node's.
 */
static int pass(bool is_node_file, int number, PagesUse expected)
{
    const PagesContent content = {
        .what = "it", .identity = "one", .size = 1000, .is_node_file = is_node_file};

    cr_expect_eq(pages_open(pages, &content, &number), expected);
    return number;
}

Test(pages, all_who_read_the_same_share_a_number)
{
    cr_expect(pages_are_unused(pages));
    cr_expect_eq(pass(true, 3, PAGES_PASSED), 3);
    cr_expect_not(pages_are_unused(pages), "there is a number");
    cr_expect_eq(pass(true, 0, PAGES_PASSED), 3);
    cr_expect_eq(pass(true, 4, PAGES_PASSED), 3, "4 is still the caller's");
    cr_expect_eq(pass(false, 5, PAGES_STALE), 5, "this is not its file");
    cr_expect_eq(pass(false, 0, PAGES_STALE), 0);
    cr_expect(pages_leave_if_resized(pages, 1000), "its name is to lead elsewhere");
    cr_expect_eq(pages_close(pages, PAGES_PASSED), 0);
    cr_expect_eq(pages_close(pages, PAGES_PASSED), 0);
    cr_expect_eq(pages_close(pages, PAGES_PASSED), 3, "the last gives it back");

    cr_expect_eq(pass(true, 4, PAGES_PASSED), 4);
    cr_expect_eq(pages_close(pages, PAGES_PASSED), 4);
}

Test(pages, who_is_not_passed_keeps_others_from_it)
{
    pass(true, 0, PAGES_NEW);
    cr_expect_not(pages_are_unused(pages));
    cr_expect_eq(pass(true, 4, PAGES_NEW), 4, "they read through the pages");
    close_as(PAGES_NEW);
    close_as(PAGES_NEW);

    cr_expect(pages_are_unused(pages));
    cr_expect_eq(pass(false, 4, PAGES_KEEP), 4, "its file is another");
    pass(true, 0, PAGES_KEEP);
    pages_spoil(pages);
    pass(true, 0, PAGES_NEW);
    close_as(PAGES_KEEP);
    close_as(PAGES_KEEP);
    cr_expect_not(pages_are_unused(pages), "somebody reads through the pages");
    close_as(PAGES_NEW);
    cr_expect(pages_are_unused(pages));
}
