/* What paths and names of backing files say by their text. */
#include "path.h"
#include "qcow.h"
#include <criterion/criterion.h>

/* The same text, or none. */
static void expect_text(const char *wanted, const char *text, const char *of)
{
    cr_expect(g_strcmp0(wanted, text) == 0, "%s: %s, not %s", of, text ? text : "none",
              wanted ? wanted : "none");
}

Test(path, of_the_name_of_a_backing_file)
{
    static const char *const cases[][2] = {
        {"base", "base"},   {"file:base", "base"}, {"file:/b:c", "/b:c"},
        {"./a:b", "./a:b"}, {"/a:b", "/a:b"},      {"", ""},
        {"nbd:host", NULL}, {"nbd://host", NULL},  {"json:{\"a\":1}", NULL},
        {"a:b", NULL},      {":", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        expect_text(cases[i][1], qc_path_of_name(cases[i][0]), cases[i][0]);
}

Test(path, of_a_name_as_qemu_completes_it)
{
    static const char *const cases[][3] = {
        {"/s/top", "base", "/s/base"}, {"/s/sub/top", "../base", "/s/sub/../base"},
        {"/top", "base", "/base"},     {"top", "base", "base"},
        {"sub/top", "b:c/d", "b:c/d"}, {"sub/top", "./b:c", "sub/./b:c"},
        {"sub/top", "/base", "/base"}, {"sub/top", "file:base", "file:base"},
        {"sub/top", "nbd:h", "nbd:h"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *full = qc_backing_full_name(cases[i][0], cases[i][1]);
        expect_text(cases[i][2], full, cases[i][1]);
    }
}

Test(path, under_a_directory)
{
    static const char *const cases[][3] = {
        {"/s", "a/b", "/s/a/b"}, {"/", "a", "/a"}, {"/s", "/a", "/a"}, {"/", "/a", "/a"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = qc_path_under(cases[i][0], cases[i][1]);
        expect_text(cases[i][2], path, cases[i][1]);
    }
}

Test(path, stripped_of_a_directory)
{
    static const struct {
        const char *dir, *path;
        const char *with_links, *without; /* what is left of it, or NULL */
    } cases[] = {
        {"/v/l/s", "/v/l/s/a", "a", "a"},
        {"/v/l/s", "//v/./l//s/./a/../b", "a/../b", "a/../b"},
        {"/v/l/s", "/v/l/s", NULL, NULL},
        {"/v/l/s", "/v/l/s/", NULL, NULL},
        {"/v/l/s", "/v/l/s/.", NULL, NULL},
        {"/v/l/s", "/v/l/sa", NULL, NULL},
        {"/v/l/s", "/v/l/a", NULL, NULL},
        {"/vv/lib/s", "/v/lib/s/a", NULL, NULL},
        {"/v-l/s", "/v/l/s/a", NULL, NULL}, /* beneath no part of a name */
        {"/v/l/s", "/v/l/s/..a", "..a", "..a"},
        {"/v/l/s", "/v/l/s/.../a", ".../a", ".../a"},
        {"/v/l/s", "/v", NULL, NULL},
        {"/v/l/s", "/", NULL, NULL},
        {"/v/l/s", "/v/../v/l/s/a", NULL, "a"},
        {"/v/l/s", "/v/l/s/../s/a", NULL, "a"},
        {"/v/l/s", "/../../v/l/s/a", NULL, "a"},
        {"/v/l/s", "/v/l/s/../../a", NULL, NULL},
        {"/v/l/s", "/a/../v/l/s/b", NULL, NULL}, /* a is not dir's, and may be a link */
        {"/", "/a", "a", "a"},
        {"/", "/../a", NULL, "a"},
        {"/", "/", NULL, NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *path = cases[i].path, *dir = cases[i].dir;
        expect_text(cases[i].with_links, qc_path_strip(path, dir, false), path);
        expect_text(cases[i].without, qc_path_strip(path, dir, true), path);
    }
}

Test(path, that_leaves_a_directory_and_comes_back)
{
    static const struct {
        const char *dir, *path;
        const char *before, *rest; /* NULL: it does not */
    } cases[] = {
        {"/v/l/s", "../s/a", "", "a"},
        {"/v/l/s", "../s/a/../../b", "", "a/../../b"},
        {"/v/l/s", "./..//s/./a", "./", "a"},
        {"/v/l/s", "b/../../s/a", "b/../", "a"},
        {"/v/l/s", "b/c/../d/../../../../../v/l/s/a", "b/c/../d/../../", "a"},
        {"/v/l/s", "../../../../v/l/s/a", "", "a"},
        {"/v/l/s", "../s/../s/a", "", "a"},
        {"/v/l/s", "a", NULL, NULL},
        {"/v/l/s", "b/../a", NULL, NULL},
        {"/v/l/s", "b/c/../../s/a", NULL, NULL},
        {"/v/l/s", "..", NULL, NULL},
        {"/v/l/s", "../s", NULL, NULL},
        {"/v/l/s", "../sa", NULL, NULL},
        {"/v/l/s", "../s/..", NULL, NULL},
        {"/v/l/s", "../a/../s/a", NULL, NULL},
        {"/v/l/s", "../../s/a", NULL, NULL},
        {"/v/l/s", "../../l/a", NULL, NULL},
        {"/", "../a", "", "a"},
        {"/", "..", NULL, NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        size_t before = 0;
        const char *path = cases[i].path;
        const char *rest = qc_path_come_back(path, cases[i].dir, &before);
        expect_text(cases[i].rest, rest, path);
        g_autofree char *passed = rest ? g_strndup(path, before) : NULL;
        expect_text(cases[i].before, passed, path);
    }
}
