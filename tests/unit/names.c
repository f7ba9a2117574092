/* What snapshots are called in a directory, and what a person means by a name. */
#include "names.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define LONG_A                                                                                     \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aa"                                                                                           \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aa"                                                                                           \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* 251 bytes */

static const struct {
    const char *name;
    size_t len;
    const char *id;
    const char *shown; /* NULL: only that it is unique and can be a file name */
} table[] = {
    {"plain", 5, "1", "plain"},
    {"with space", 10, "2", "with space"},
    {"a/b", 3, "3", "a%2Fb"},
    {"100%", 4, "4", "100%25"},
    {"tab\there", 8, "5", "tab%09here"},
    {"nul\0here", 8, "6", "nul%00here"},
    {"\x7f", 1, "7", "%7F"},
    {".", 1, "8", "%2E"},
    {"..", 2, "9", "%2E%2E"},
    {"...", 3, "10", "..."},
    {"\xff\xfe", 2, "11", "\xff\xfe"},
    {"csi \xc2\x9b", 6, "25", "csi %C2%9B"},
    {"csi \x9b", 5, "26", "csi %9B"},
    {"\xc4\x9b\xe2\x82\xac\xf0\x9f\x90\x84", 9, "27", "\xc4\x9b\xe2\x82\xac\xf0\x9f\x90\x84"},
    {"\xc2\xa0\xc3", 3, "28", "\xc2\xa0\xc3"},
    {"", 0, "12", "~12"},
    {"twice", 5, "13", "twice~13"},
    {"twice", 5, "14", "twice~14"},
    {"taken", 5, "15", NULL},
    {"taken", 5, "16", "taken~16"},
    {"taken~15", 8, "17", "taken~15"},
    {"same id", 7, "18", "same id~18~21"}, /* where they are in the table */
    {"same id", 7, "18", "same id~18~22"},
    {"../../etc/x", 11, "19", "..%2F..%2Fetc%2Fx"},
    {"odd", 3, "2/0", "odd~2%2F0"},
    {"odd", 3, "..", "odd~%2E%2E"},
    {LONG_A "bbbb", 255, "21", LONG_A "bbbb"},
    {LONG_A "/b", 253, "22", LONG_A "%2Fb"},
    {LONG_A "b/c", 254, "23", LONG_A "b~23"},
    {LONG_A "\xc3\xa4/", 254, "24", LONG_A "~24"},
};

static QcSnapshot named(const char *name, size_t len, const char *id)
{
    return (QcSnapshot){.name = name, .name_len = len, .id = id};
}

static Names *make(QcSnapshot snapshots[G_N_ELEMENTS(table)])
{
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++)
        snapshots[i] = named(table[i].name, table[i].len, table[i].id);
    return names_new(snapshots, G_N_ELEMENTS(table));
}

Test(names, shown)
{
    QcSnapshot snapshots[G_N_ELEMENTS(table)];
    g_autoptr(Names) names = make(snapshots);

    cr_assert_eq(names_count(names), G_N_ELEMENTS(table));
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].shown)
            cr_expect_str_eq(names_shown(names, i), table[i].shown);
    }
}

Test(names, unique_and_found_again)
{
    QcSnapshot snapshots[G_N_ELEMENTS(table)];
    g_autoptr(Names) names = make(snapshots);

    for (unsigned i = 0; i < names_count(names); i++) {
        const char *shown = names_shown(names, i);
        unsigned found;

        cr_expect(*shown && strlen(shown) <= NAMES_MAX && !strchr(shown, '/'));
        cr_expect_eq(names_find(names, shown, &found), 0);
        cr_expect_eq(found, i, "%s is found at %u, not at %u", shown, found, i);
        cr_expect_eq(names_resolve(names, shown, &found), 0);
        cr_expect_eq(found, i);
    }
}

/* Two of one name and one id, and others that are called what would tell these two apart. */
Test(names, what_makes_a_name_unique_may_be_taken)
{
    const QcSnapshot snapshots[] = {named("d", 1, "1"),     named("d", 1, "1"),
                                    named("d~1", 3, "2"),   named("d~1~0", 5, "3"),
                                    named("d~1~1", 5, "4"), named("d~1~0~0", 7, "5")};
    g_autoptr(Names) names = names_new(snapshots, G_N_ELEMENTS(snapshots));

    for (unsigned i = 0; i < G_N_ELEMENTS(snapshots); i++) {
        unsigned found;

        cr_expect_eq(names_find(names, names_shown(names, i), &found), 0);
        cr_expect_eq(found, i, "%s", names_shown(names, i));
        if (i >= 2)
            cr_expect_str_eq(names_shown(names, i), snapshots[i].name);
    }
}

Test(names, resolve_by_exact_name)
{
    const QcSnapshot snapshots[] = {named("a/b", 3, "1"), named("two", 3, "2"),
                                    named("two", 3, "3"), named("x%41", 4, "4"),
                                    named("two~2", 5, "5")};
    g_autoptr(Names) names = names_new(snapshots, G_N_ELEMENTS(snapshots));
    unsigned found = 99;

    cr_expect_eq(names_resolve(names, "a/b", &found), 0);
    cr_expect_eq(found, 0);
    cr_expect_eq(names_resolve(names, "x%41", &found), 0);
    cr_expect_eq(found, 3);
    cr_expect_eq(names_resolve(names, "two~2", &found), 0);
    cr_expect_eq(found, 4);
    found = 99;
    cr_expect_eq(names_resolve(names, "two", &found), -ENOTUNIQ);
    cr_expect_eq(names_resolve(names, "", &found), -ENOENT);
    cr_expect_eq(names_resolve(names, "none", &found), -ENOENT);
    cr_expect_eq(found, 99);
}

/* What only might have been listed, while others had the name, is no name: it may be one that is
 * gone. */
Test(names, an_id_alone_is_no_name)
{
    const QcSnapshot snapshots[] = {
        named("n", 1, "2"),          named("a/b", 3, "3"), named(LONG_A "b", 252, "4"),
        named("two", 3, "5"),        named("two", 3, "6"), named("n~7", 3, "8"),
        named("two~2", 5, "9"),      named("d", 1, "1"),   named("d~1", 3, "10"),
        named("d~1", 3, "11"),       named("e", 1, "1"),   named("e~1", 3, "12"),
        named(LONG_A "b", 252, "13")};
    static const struct {
        const char *arg;
        int result;
        unsigned found;
    } args[] = {
        {"n~2", -ENOENT, 99},   {"a%2Fb~3", -ENOENT, 99}, {"n~7", 0, 5},
        {"n~7~8", -ENOENT, 99}, {"two~2", 0, 6},          {"two~5", 0, 3},
        {"d~1", -ENOTUNIQ, 99}, /* one of the two */
        {"e~1", 0, 11},
    };
    g_autoptr(Names) names = names_new(snapshots, G_N_ELEMENTS(snapshots));

    for (unsigned i = 0; i < G_N_ELEMENTS(args); i++) {
        unsigned found = 99;

        cr_expect_eq(names_resolve(names, args[i].arg, &found), args[i].result, "%s", args[i].arg);
        cr_expect_eq(found, args[i].found, "%s", args[i].arg);
    }
}

/* How the others are shown, joined; "-": no table. */
static void expect_without(const Names *names, unsigned index, const char *wanted)
{
    g_autoptr(Names) rest = names_without(names, index);
    g_autoptr(GString) shown = g_string_new(rest ? NULL : "-");

    for (unsigned i = 0; rest && i < names_count(rest); i++)
        g_string_append_printf(shown, "%s%s", i > 0 ? " " : "", names_shown(rest, i));
    cr_expect_str_eq(shown->str, wanted);
}

Test(names, without_one)
{
    const QcSnapshot snapshots[] = {named("two", 3, "1"), named("one", 3, "2"),
                                    named("two", 3, "3"), named("two~1", 5, "4")};
    g_autoptr(Names) names = names_new(snapshots, G_N_ELEMENTS(snapshots));
    g_autoptr(Names) plain = names_new(snapshots, 2);

    cr_expect_str_eq(names_shown(names, 0), "two~1~0");
    expect_without(names, 0, "one two two~1");
    expect_without(names, 1, "two~1~0 two~3 two~1");
    expect_without(names, 2, "two one two~1");
    expect_without(names, 3, "two~1 one two~3");
    expect_without(plain, 0, "-");
}

Test(names, meant)
{
    const QcSnapshot snapshots[] = {named("two", 3, "5"), named("one", 3, "1"),
                                    named("two", 3, "6")};
    g_autoptr(Names) names = names_new(snapshots, G_N_ELEMENTS(snapshots));
    g_auto(GStrv) two = names_meant(names, "two");
    g_auto(GStrv) none = names_meant(names, "none");

    cr_assert_eq(g_strv_length(two), 2);
    cr_expect_str_eq(two[0], "two~5");
    cr_expect_str_eq(two[1], "two~6");
    cr_expect_eq(g_strv_length(none), 0);
}

/* As many as the format allows, all with one name and one id: still unique, and soon. */
Test(names, all_alike, .timeout = 60)
{
    const unsigned count = 65536;
    g_autofree QcSnapshot *snapshots = g_new0(QcSnapshot, count);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < count; i++)
        snapshots[i] = named("same", 4, "1");
    g_autoptr(Names) names = names_new(snapshots, count);
    for (unsigned i = 0; i < count; i++)
        cr_assert(g_hash_table_add(seen, (gpointer)names_shown(names, i)));
}

Test(names, none)
{
    g_autoptr(Names) names = names_new(NULL, 0);
    unsigned found;

    cr_expect_eq(names_count(names), 0);
    cr_expect_eq(names_find(names, "x", &found), -ENOENT);
}

Test(names, new_name_from_argument)
{
    static const struct {
        const char *arg, *bytes;
        size_t len;
    } args[] = {
        {"plain", "plain", 5},
        {"a/b", "a/b", 3},
        {"a%2Fb", "a/b", 3},
        {"a%2fb", "a%2fb", 5}, /* we never write it so */
        {"100%", "100%", 4},
        {"100%25", "100%", 4},
        {"%41", "%41", 3},         /* an A needs no escape */
        {"a%2Fb/c", "a%2Fb/c", 7}, /* nor do we mix */
        {"%2E%2E", "..", 2},
        {"%00", "\0", 1},
        {"", "", 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(args); i++) {
        g_autoptr(GBytes) got = name_from_argument(args[i].arg);
        g_autoptr(GBytes) want = g_bytes_new(args[i].bytes, args[i].len);

        cr_expect(g_bytes_equal(got, want), "%s", args[i].arg);
    }
}

Test(names, cut_where_it_does_not_hurt)
{
    g_autofree char *base = g_strnfill(NAMES_MAX - 4, 'a');
    static const struct {
        const char *tail, *kept;
    } tails[] = {
        {"xyz", "xy"}, /* room for 2 */
        {"x%2F", "x"},        {"%2F", ""},
        {"x\xc3\xa4z", "x"}, /* a UTF-8 character of two bytes */
        {"\xe2\x82\xac", ""}, {"\xff\xff\xff", "\xff\xff"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(tails); i++) {
        g_autofree char *name = g_strconcat(base, tails[i].tail, "--------", NULL);
        g_autofree char *want = g_strconcat(base, tails[i].kept, "~1", NULL);
        g_autofree char *got = name_fit(name, "~1");

        cr_expect_str_eq(got, want);
    }
}

/* Of a character of four bytes, three fit. */
Test(names, no_character_is_cut_in_two)
{
    g_autofree char *base = g_strnfill(NAMES_MAX - 4, 'a');
    g_autofree char *name = g_strconcat(base, "\xf0\x9f\x90\x84--------", NULL);
    g_autofree char *want = g_strconcat(base, "~", NULL);
    g_autofree char *got = name_fit(name, "~");

    cr_expect_str_eq(got, want);
}
