/* The language of the control files. */
#include "command.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>

/* All commands of a write. */
static GPtrArray *parse(const char *bytes, size_t len, bool with_image)
{
    g_autoptr(Script) script = script_new(bytes, len, with_image);
    GPtrArray *commands = g_ptr_array_new_with_free_func((GDestroyNotify)command_free);
    Command *command;

    while ((command = script_next(script)))
        g_ptr_array_add(commands, command);
    return commands;
}

static const struct {
    const char *line;
    bool with_image;
    CommandVerb verb;
    const char *image, *name, *new_name; /* name NULL: it is wrong */
} lines[] = {
    {"take a", false, COMMAND_TAKE, NULL, "a", NULL},
    {"  take\ta  \r", false, COMMAND_TAKE, NULL, "a", NULL},
    {"take 'with space'", false, COMMAND_TAKE, NULL, "with space", NULL},
    {"take \"it's\"", false, COMMAND_TAKE, NULL, "it's", NULL},
    {"take a\\ b", false, COMMAND_TAKE, NULL, "a b", NULL},
    {"take ''", false, COMMAND_TAKE, NULL, "", NULL},
    {"take $HOME", false, COMMAND_TAKE, NULL, "$HOME", NULL},
    {"take a # why", false, COMMAND_TAKE, NULL, "a", NULL},
    {"take a\t# why", false, COMMAND_TAKE, NULL, "a", NULL},
    {"take a \t#why 'not", false, COMMAND_TAKE, NULL, "a", NULL},
    {"take build\\ #42", false, COMMAND_TAKE, NULL, "build #42", NULL},
    {"take build\\ \\#42", false, COMMAND_TAKE, NULL, "build #42", NULL},
    {"delete a\\\t#b", false, COMMAND_DELETE, NULL, "a\t#b", NULL},
    {"take '#1'", false, COMMAND_TAKE, NULL, "#1", NULL},
    {"take ''#1", false, COMMAND_TAKE, NULL, "#1", NULL},
    {"take a#b", false, COMMAND_TAKE, NULL, "a#b", NULL},
    {"rename 'a '#1 \\#2", false, COMMAND_RENAME, NULL, "a #1", "#2"},
    {"take a\\ ", false, COMMAND_TAKE, NULL, "a ", NULL},
    {"take a\\  ", false, COMMAND_TAKE, NULL, "a ", NULL},
    {"take \\ a", false, COMMAND_TAKE, NULL, " a", NULL},
    {"take a\\\t\r", false, COMMAND_TAKE, NULL, "a\t", NULL},
    {"take \" a \"' b '", false, COMMAND_TAKE, NULL, " a  b ", NULL},
    {"take \"a\\\"b\\\\\"", false, COMMAND_TAKE, NULL, "a\"b\\", NULL},
    {"take \"\\a'\"", false, COMMAND_TAKE, NULL, "\\a'", NULL},
    {"take '\\'", false, COMMAND_TAKE, NULL, "\\", NULL},
    {"take \\$'a'", false, COMMAND_TAKE, NULL, "$a", NULL},
    {"take \"$\"'a'", false, COMMAND_TAKE, NULL, "$a", NULL},
    {"take '$'\\''a'", false, COMMAND_TAKE, NULL, "$'a", NULL},
    {"revert a%2Fb", false, COMMAND_REVERT, NULL, "a%2Fb", NULL},
    {"delete a", false, COMMAND_DELETE, NULL, "a", NULL},
    {"rename a b", false, COMMAND_RENAME, NULL, "a", "b"},
    {"take team-a/web.qcow2 a", true, COMMAND_TAKE, "team-a/web.qcow2", "a", NULL},
    {"rename web.qcow2 a 'b c'", true, COMMAND_RENAME, "web.qcow2", "a", "b c"},
    {"take", false, 0, NULL, NULL, NULL},
    {"take a b", false, 0, NULL, NULL, NULL},
    {"check it", false, 0, NULL, NULL, NULL},
    {"rename a", false, 0, NULL, NULL, NULL},
    {"rename a b c", false, 0, NULL, NULL, NULL},
    {"take a", true, 0, NULL, NULL, NULL},
    {"TAKE a", false, 0, NULL, NULL, NULL},
    {"frobnicate a", false, 0, NULL, NULL, NULL},
    {"take 'a", false, 0, NULL, NULL, NULL},
    {"take \"a", false, 0, NULL, NULL, NULL},
    {"take a\\", false, 0, NULL, NULL, NULL},
    {"take $'a'", false, 0, NULL, NULL, NULL},
    {"take b$'it\\'s'", false, 0, NULL, NULL, NULL},
    {"take \"$'a'\"", false, COMMAND_TAKE, NULL, "$'a'", NULL},
    {"take '$'a", false, COMMAND_TAKE, NULL, "$a", NULL},
    {"take \\$'a'", false, COMMAND_TAKE, NULL, "$a", NULL},
    {"take a$ # as in $'a'", false, COMMAND_TAKE, NULL, "a$", NULL},
    {"take a\\\r", false, 0, NULL, NULL, NULL},
    {"take a 'b", false, 0, NULL, NULL, NULL},
    {"take \"a\\\"", false, 0, NULL, NULL, NULL},
    {"take \t#a", false, 0, NULL, NULL, NULL},
    {"take $'a\\n'", false, 0, NULL, NULL, NULL},
    {"take a$'\\303\\274'", false, 0, NULL, NULL, NULL},
};

Test(command, lines)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GPtrArray) got = parse(lines[i].line, strlen(lines[i].line), lines[i].with_image);

        cr_assert_eq(got->len, 1, "%s", lines[i].line);
        const Command *command = got->pdata[0];
        if (!lines[i].name) {
            cr_expect(command->error && command->error->code == EINVAL, "%s", lines[i].line);
            continue;
        }
        cr_assert_null(command->error, "%s", lines[i].line);
        cr_expect_eq(command->verb, lines[i].verb);
        cr_expect_eq(g_strcmp0(command->image, lines[i].image), 0);
        cr_expect_eq(g_strcmp0(command->name, lines[i].name), 0);
        cr_expect_eq(g_strcmp0(command->new_name, lines[i].new_name), 0);
    }
}

Test(command, those_without_a_name)
{
    g_autoptr(GPtrArray) own = parse("check\nrepair", 12, false);
    g_autoptr(GPtrArray) store = parse("check team-a/x", 14, true);

    cr_assert_eq(own->len, 2);
    cr_expect_eq(((Command *)own->pdata[0])->verb, COMMAND_CHECK);
    cr_expect_eq(((Command *)own->pdata[1])->verb, COMMAND_REPAIR);
    cr_expect_null(((Command *)own->pdata[1])->error);
    cr_assert_eq(store->len, 1);
    cr_expect_str_eq(((Command *)store->pdata[0])->image, "team-a/x");
    g_autofree char *text = command_to_text(store->pdata[0], NULL);
    cr_expect_str_eq(text, "check");
}

Test(command, several_lines_in_order)
{
    const char text[] = "\n# a comment\ntake a\n\n   \nrevert b\n  # another\ndelete c";
    g_autoptr(GPtrArray) got = parse(text, strlen(text), false);
    static const CommandVerb verbs[] = {COMMAND_TAKE, COMMAND_REVERT, COMMAND_DELETE};

    cr_assert_eq(got->len, 3);
    for (unsigned i = 0; i < got->len; i++)
        cr_expect_eq(((Command *)got->pdata[i])->verb, verbs[i]);
}

Test(command, nothing_to_do)
{
    static const char *const texts[] = {
        "", "\n", " \t \n\n", "# only a comment", "\t# another", "\r\n", "#'\r\n \r"};

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GPtrArray) got = parse(texts[i], strlen(texts[i]), false);

        cr_expect_eq(got->len, 0);
    }
}

Test(command, nul_byte)
{
    g_autoptr(GPtrArray) got = parse("take a\0b", 8, false);

    cr_assert_eq(got->len, 1);
    cr_expect_eq(((Command *)got->pdata[0])->error->code, EINVAL);
}

/* Buffers are full after so many bytes: "delete nightly-1" may have begun as "delete nightly-19".
 */
Test(command, a_piece_of_a_longer_text_is_not_run)
{
    static const size_t sizes[] = {4096, 8192, COMMAND_MAX_BYTES};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = g_strnfill(sizes[i], '\n');
        memcpy(text + sizes[i] - 6, "take a", 6);
        g_autoptr(GPtrArray) cut = parse(text, sizes[i], false);
        text[sizes[i] - 1] = '\n';
        memcpy(text, "take a", 6);
        g_autoptr(GPtrArray) whole = parse(text, 7, false);
        memcpy(text + sizes[i] - 7, "take a\n", 7);
        g_autoptr(GPtrArray) ended = parse(text, sizes[i], false);

        cr_assert_eq(cut->len, 1);
        cr_expect_eq(((Command *)cut->pdata[0])->error->code, EINVAL);
        cr_assert_eq(whole->len, 1);
        cr_expect_null(((Command *)whole->pdata[0])->error);
        cr_assert_eq(ended->len, 2);
        cr_expect_null(((Command *)ended->pdata[1])->error);
    }
}

/* A line is looked at when those before it are done, so that one that fails costs no more. */
Test(command, further_lines_are_not_looked_at)
{
    g_autofree char *text = g_strnfill(COMMAND_MAX_BYTES, '\n');
    size_t before = 0, after;

    for (unsigned i = 0; i < COMMAND_MAX_BYTES; i += 2)
        text[i] = 'a';
    g_autoptr(Script) script = script_new(text, COMMAND_MAX_BYTES, false);
    before = mallinfo2().uordblks;
    g_autoptr(Command) command = script_next(script);
    after = mallinfo2().uordblks;
    cr_expect_eq(command->error->code, EINVAL);
    cr_expect_lt(after - before, COMMAND_MAX_BYTES);
}

/* What is shown of a line is one line. */
Test(command, text_is_printable)
{
    static const char text[] = "take a\x01\x1b[2J\xc2\x9b"
                               "2J\xe2\x82\x9b\x9b";
    g_autoptr(GPtrArray) got = parse(text, strlen(text), false);

    cr_expect_str_eq(((Command *)got->pdata[0])->text,
                     "take a\\x01\\x1b[2J\\xc2\\x9b2J\xe2\x82\x9b\\x9b");
}

Test(command, to_text_can_be_typed_again)
{
    static const char *const texts[] = {"take a", "rename a/b c%2Fd", "take 'it is'", "delete ''"};

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GPtrArray) got = parse(texts[i], strlen(texts[i]), false);
        g_autofree char *text = command_to_text(got->pdata[0], NULL);

        cr_expect_str_eq(text, texts[i]);
    }
}

/* Whatever the names are, the line is one, and what stands behind them is no part of them. */
Test(command, to_text_with_its_image)
{
    static const char line[] = "rename a 'b: ok (uid 0, process 1)'";
    g_autoptr(GPtrArray) got = parse(line, strlen(line), false);
    g_autofree char *plain = command_to_text(got->pdata[0], "sub/web.qcow2");
    g_autofree char *odd = command_to_text(got->pdata[0], "x: ok\ny");

    cr_expect_str_eq(plain, "rename sub/web.qcow2 a 'b: ok (uid 0, process 1)'");
    cr_expect_str_eq(odd, "rename 'x: ok\\x0ay' a 'b: ok (uid 0, process 1)'");
}
