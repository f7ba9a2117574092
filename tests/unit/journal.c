/* What is remembered of results, of which user's, and where a line is cut. */
#include "journal.h"

#include <criterion/criterion.h>
#include <string.h>

static void add(Journal *journal, const char *image, uid_t who, const char *line)
{
    const JournalAbout about = {.who = who};

    journal_add(journal, image, &about, line, line);
}

static unsigned count(Journal *journal, const char *image, uid_t who)
{
    g_autofree char *text = journal_text(journal, image, who, NULL);
    unsigned n = 0;

    for (const char *at = text; (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

Test(journal, the_last_lines_of_an_image)
{
    Journal *journal = journal_new();

    for (uid_t who = 0; who < 2 * JOURNAL_LINES; who++)
        add(journal, "image", who, "line");
    cr_expect_eq(count(journal, "image", JOURNAL_ALL), JOURNAL_LINES);
    cr_expect_eq(count(journal, "image", 0), JOURNAL_LINES);
    journal_free(journal);
}

Test(journal, the_oldest_line_goes_first)
{
    Journal *journal = journal_new();

    for (unsigned i = 0; i <= JOURNAL_LINES; i++) {
        g_autofree char *line = g_strdup_printf("line %u;", i);

        add(journal, "image", 0, line);
        add(journal, "", 1234, line);
    }
    g_autofree char *of_image = journal_text(journal, "image", 0, NULL);
    g_autofree char *of_user = journal_text(journal, "", 1234, NULL);
    cr_expect(g_str_has_prefix(of_image, "line 1;\nline 2;\n"), "%s", of_image);
    cr_expect_str_eq(of_user, of_image);
    journal_free(journal);
}

Test(journal, what_others_are_told)
{
    Journal *journal = journal_new();
    const JournalAbout about = {.who = 1234};

    journal_add(journal, "image", &about, "whole", "less");
    journal_add(journal, "", &about, "whole", "less");
    g_autofree char *own = journal_text(journal, "image", 1234, NULL);
    g_autofree char *all = journal_text(journal, "image", JOURNAL_ALL, NULL);
    g_autofree char *other = journal_text(journal, "image", 1235, NULL);
    g_autofree char *of_store = journal_text(journal, "", 1235, NULL);
    cr_expect_str_eq(own, "whole\n");
    cr_expect_str_eq(all, "whole\n");
    cr_expect_str_eq(other, "less\n");
    cr_expect_str_eq(of_store, "");
    journal_free(journal);
}

/* A line of what runs is shown as results are, for as long as it does. */
Test(journal, what_runs)
{
    Journal *journal = journal_new();
    const JournalAbout about = {.who = 1234, .file = {.ino = 1}};
    const QcFileStat same = {.ino = 1}, other = {.ino = 2};

    journal_set_running(journal, "image", &about, journal, "1%");
    journal_set_running(journal, "", &about, journal, "1%");
    journal_set_running(journal, "image", &about, journal, "2%");
    g_autofree char *of_file = journal_text(journal, "image", 1235, &same);
    g_autofree char *of_other = journal_text(journal, "image", 1234, &other);
    g_autofree char *own = journal_text(journal, "", 1234, NULL);
    cr_expect_str_eq(of_file, "2%\n");
    cr_expect_str_eq(of_other, "");
    cr_expect_str_eq(own, "1%\n");
    cr_expect_eq(count(journal, "", JOURNAL_ALL), 1);
    cr_expect_eq(count(journal, "", 1235), 0);
    journal_clear_running(journal, "image", journal);
    cr_expect_eq(count(journal, "image", 1234), 0);
    cr_expect_eq(count(journal, "", 1234), 1);
    journal_free(journal);
}

Test(journal, several_run_on_one_image)
{
    Journal *journal = journal_new();
    const JournalAbout about = {.who = 1234};
    const char first = 0, second = 0, none = 0;

    journal_set_running(journal, "image", &about, &first, "1%");
    journal_set_running(journal, "image", &about, &second, "2%");
    journal_set_running(journal, "image", &about, &first, "3%");
    g_autofree char *both = journal_text(journal, "image", 1234, NULL);
    cr_expect_str_eq(both, "3%\n2%\n");
    journal_clear_running(journal, "image", &none);
    journal_clear_running(journal, "image", &first);
    g_autofree char *one = journal_text(journal, "image", 1234, NULL);
    cr_expect_str_eq(one, "2%\n");
    journal_free(journal);
}

/* What took the place and the number of a file is another file. */
Test(journal, of_the_file_that_is_there)
{
    Journal *journal = journal_new();
    const JournalAbout about = {.who = 0, .file = {.dev = 1, .ino = 2, .btime = 3}};
    const QcFileStat later = {.dev = 1, .ino = 2, .btime = 4};

    journal_add(journal, "image", &about, "line", "line");
    g_autofree char *of_file = journal_text(journal, "image", 0, &about.file);
    g_autofree char *of_other = journal_text(journal, "image", 0, &later);
    cr_expect_str_eq(of_file, "line\n");
    cr_expect_str_eq(of_other, "");
    journal_free(journal);
}

Test(journal, nobody_drives_out_the_lines_of_others_from_the_stores)
{
    Journal *journal = journal_new();

    add(journal, "", 0, "root");
    add(journal, "", 1234, "user");
    for (unsigned i = 0; i < 3 * JOURNAL_LINES; i++)
        add(journal, "", 65534, "rubbish");
    cr_expect_eq(count(journal, "", 0), 1);
    cr_expect_eq(count(journal, "", 1234), 1);
    cr_expect_eq(count(journal, "", 65534), JOURNAL_LINES);
    cr_expect_eq(count(journal, "", JOURNAL_ALL), JOURNAL_LINES + 2);
    journal_free(journal);
}

Test(journal, users_are_bounded_but_root_stays)
{
    Journal *journal = journal_new();

    add(journal, "", 0, "root");
    for (uid_t who = 1; who <= 10 * JOURNAL_USERS; who++) {
        add(journal, "", who, "line");
        add(journal, "", who, "line");
    }
    cr_expect_eq(count(journal, "", 0), 1);
    cr_expect_eq(count(journal, "", 10 * JOURNAL_USERS), 2);
    cr_expect_eq(count(journal, "", 1), 0);
    cr_expect_eq(count(journal, "", JOURNAL_ALL), 2 * (JOURNAL_USERS - 1) + 1);
    journal_free(journal);
}

/* All that the least recent one had goes at once. */
Test(journal, who_comes_takes_the_place_of_one_user)
{
    Journal *journal = journal_new();

    for (unsigned i = 0; i < 5; i++)
        add(journal, "", 1, "line");
    for (uid_t who = 2; who <= JOURNAL_USERS + 1; who++)
        add(journal, "", who, "line");
    cr_expect_eq(count(journal, "", 1), 0);
    cr_expect_eq(count(journal, "", JOURNAL_ALL), JOURNAL_USERS);
    journal_free(journal);
}

Test(journal, the_stores_page_stays)
{
    Journal *journal = journal_new();

    add(journal, "", 0, "root");
    for (unsigned i = 0; i < 2 * JOURNAL_IMAGES; i++) {
        g_autofree char *image = g_strdup_printf("%u", i);

        add(journal, image, 1234, "line");
        if (i == JOURNAL_IMAGES - 1) /* with the store's, one page too many */
            cr_expect_eq(count(journal, "0", 1234), 0);
    }
    cr_expect_eq(count(journal, "", 0), 1);
    cr_expect_eq(count(journal, "1", 1234), 0);
    journal_free(journal);
}

Test(journal, an_image_that_is_used_stays)
{
    Journal *journal = journal_new();

    for (unsigned i = 0; i <= JOURNAL_IMAGES; i++) {
        g_autofree char *image = g_strdup_printf("%u", i);

        if (i == JOURNAL_IMAGES)
            add(journal, "0", 0, "line");
        add(journal, image, 0, "line");
    }
    cr_expect_eq(count(journal, "0", 0), 2);
    cr_expect_eq(count(journal, "1", 0), 0);
    cr_expect_eq(count(journal, "2", 0), 1);
    journal_free(journal);
}

Test(journal, no_character_is_split)
{
    static const char text[] = "x\xe2\x82\xac\xf0\x9f\x98\x80"; /* of 1, 3 and 4 bytes */
    static const size_t want[] = {0, 1, 1, 1, 4, 4, 4, 4, 8, 8};

    for (size_t max = 0; max < G_N_ELEMENTS(want); max++) {
        g_autofree char *cut = journal_cut(text, max);

        cr_expect_eq(strlen(cut), want[max], "of at most %zu bytes: %zu", max, strlen(cut));
        cr_expect_eq(0, memcmp(cut, text, strlen(cut)));
    }
    /* Where no character begins, nothing is taken, nor looked at what is in front. */
    static const char broken[] = "x\x80\x80\x80";
    g_autofree char *none = journal_cut(broken + 1, 2);
    cr_expect_str_eq(none, "");
}

Test(journal, long_lines_are_cut)
{
    Journal *journal = journal_new();
    g_autofree char *line = g_strnfill(2 * JOURNAL_BYTES, 'x');
    const JournalAbout about = {.who = 1234};

    journal_add(journal, "image", &about, line, line);
    g_autofree char *own = journal_text(journal, "image", 1234, NULL);
    g_autofree char *other = journal_text(journal, "image", 1235, NULL);
    cr_expect_eq(strlen(own), JOURNAL_BYTES + 1);
    cr_expect_eq(strlen(other), JOURNAL_BYTES + 1);
    journal_set_running(journal, "running", &about, journal, line);
    g_autofree char *running = journal_text(journal, "running", 1234, NULL);
    cr_expect_eq(strlen(running), JOURNAL_BYTES + 1);
    journal_free(journal);
}
