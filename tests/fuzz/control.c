/*
 * Fuzz target: the text that people write to control files. The input is a flag (which control
 * file) and the text.
 */
#include "command.h"
#include "fuzz.h"
#include "text.h"
#include <string.h>

static bool is_one_line(const char *text)
{
    g_autofree char *line = text_one_line(text);
    return strcmp(line, text) == 0;
}

/* What a command is written as must mean the same command. */
static void check_text(const Command *c)
{
    g_autofree char *text = command_to_text(c, NULL);
    fuzz_require(is_one_line(text));
    if ((c->name && !is_one_line(c->name)) || (c->new_name && !is_one_line(c->new_name)))
        return; /* such characters are shown, not quoted */
    g_autoptr(Script) again = script_new(text, strlen(text), false);
    g_autoptr(Command) d = script_next(again), more = script_next(again);
    fuzz_require(d && !more, "%s", text);
    fuzz_require(!d->error, "%s", text);
    fuzz_require(d->verb == c->verb && g_strcmp0(d->name, c->name) == 0, "%s", text);
    fuzz_require(g_strcmp0(d->new_name, c->new_name) == 0, "%s", text);
}

static void check_command(const Command *c, bool with_image)
{
    fuzz_require(c->text && is_one_line(c->text));
    if (c->error) {
        fuzz_require(*c->error->message && is_one_line(c->error->message));
        return;
    }
    bool whole_image = c->verb == COMMAND_CHECK || c->verb == COMMAND_REPAIR;
    fuzz_require((c->name == NULL) == whole_image);
    fuzz_require((c->image != NULL) == with_image);
    fuzz_require((c->new_name != NULL) == (c->verb == COMMAND_RENAME));
    check_text(c);
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    bool with_image = fuzz_take(&in, 1) & 1;
    if (in.left > COMMAND_MAX_BYTES)
        return;
    g_autoptr(Script) script = script_new((const char *)in.at, in.left, with_image);
    for (Command *command; (command = script_next(script)); command_free(command))
        check_command(command, with_image);
}
