/* command.c - see command.h. */
#include "command.h"

#include "qcow.h"
#include "text.h"
#include "words.h"

#include <errno.h>
#include <string.h>

enum {
    PIECE = 4096, /* bytes of the buffers that programs write, or a multiple of it */
};

static const struct {
    const char *word;
    const char *usage; /* its arguments */
    unsigned args;
    const char *meaning;
} verbs[] = {
    [COMMAND_TAKE] = {"take", "NAME", 1, "take a snapshot of the disk as it is now"},
    [COMMAND_REVERT] = {"revert", "NAME", 1, "make the disk what it was then; the snapshot stays"},
    [COMMAND_DELETE] = {"delete", "NAME", 1, "forget a snapshot"},
    [COMMAND_RENAME] = {"rename", "OLD NEW", 2, "give a snapshot another name"},
    [COMMAND_CHECK] = {"check", "", 0, "look for errors and lost space; nothing is changed"},
    [COMMAND_REPAIR] = {"repair", "", 0, "set the reference counts right, free lost space"},
};

struct Script {
    Command *refused; /* in place of all commands, or NULL */
    char *text;
    char *rest; /* in text: what was not looked at yet; NULL: nothing */
    bool with_image;
};

/* What one types for it (g_free). */
static char *verb_usage(unsigned verb, bool with_image)
{
    return g_strconcat(verbs[verb].word, with_image ? " IMAGE" : "",
                       verbs[verb].args > 0 ? " " : "", verbs[verb].usage, NULL);
}

void command_free(Command *command)
{
    if (!command)
        return;
    g_free(command->text);
    g_free(command->image);
    g_free(command->name);
    g_free(command->new_name);
    g_clear_error(&command->error);
    g_free(command);
}

static int find_verb(const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].word, word) == 0)
            return (int)i;
    }
    return -1;
}

/* The words, with commas (g_free). */
static char *list_verbs(void)
{
    GString *list = g_string_new(verbs[0].word);

    for (unsigned i = 1; i < G_N_ELEMENTS(verbs); i++)
        g_string_append_printf(list, "%s%s", i + 1 < G_N_ELEMENTS(verbs) ? ", " : " and ",
                               verbs[i].word);
    return g_string_free(list, FALSE);
}

/* Fill in a command from the words of its line, of which there is at least one. */
static void understand(Command *command, char **words, bool with_image)
{
    int verb = find_verb(words[0]);

    if (verb < 0) {
        g_autofree char *word = text_one_line(words[0]), *known = list_verbs();

        g_set_error(&command->error, QC_ERROR, EINVAL, "unknown command '%s'; there are %s", word,
                    known);
        return;
    }
    if (g_strv_length(words) != 1 + with_image + verbs[verb].args) {
        g_autofree char *usage = verb_usage((unsigned)verb, with_image);

        g_set_error(&command->error, QC_ERROR, EINVAL, "wrong number of arguments; write: %s%s",
                    usage,
                    with_image || verbs[verb].args > 0 ? " (quote names as in a shell)" : "");
        return;
    }

    char **args = words + 1;
    command->verb = (CommandVerb)verb;
    if (with_image)
        command->image = g_strdup(*args++);
    if (verbs[verb].args > 0)
        command->name = g_strdup(args[0]);
    if (verbs[verb].args > 1)
        command->new_name = g_strdup(args[1]);
}

/* NULL: the line is blank or a comment. */
static Command *parse_line(const char *line, bool with_image)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) words = words_split(line, &error);

    if (words && !*words)
        return NULL;

    Command *command = g_new0(Command, 1);
    command->text = text_one_line(line);
    if (words)
        understand(command, words, with_image);
    else
        command->error = g_steal_pointer(&error);
    return command;
}

/* In place of the commands of a write that is refused as a whole. */
static Command *refuse(int error, size_t len, const char *reason)
{
    Command *command = g_new0(Command, 1);

    command->text = g_strdup_printf("(%zu bytes)", len);
    g_set_error_literal(&command->error, QC_ERROR, error, reason);
    return command;
}

/*
 * Whether this seems to be a piece of a longer text, cut where a program's buffer was full: its
 * last line may become another command than it is so far.
 */
static bool is_cut(const char *bytes, size_t len)
{
    return len > 0 && len % PIECE == 0 && bytes[len - 1] != '\n';
}

/* NULL: there is no reason to refuse it. */
static Command *refuse_write(const char *bytes, size_t len)
{
    if (len > COMMAND_MAX_BYTES)
        return refuse(E2BIG, len, "one write has at most 64 KiB of commands; none was run");
    if (memchr(bytes, '\0', len))
        return refuse(EINVAL, len, "a command is text, without NUL bytes");
    if (is_cut(bytes, len))
        return refuse(
            EINVAL, len,
            "this seems to be a piece of a longer text, and its last line not whole; write "
            "whole lines at once, at most 64 KiB; none was run");
    return NULL;
}

Script *script_new(const char *bytes, size_t len, bool with_image)
{
    Script *script = g_new0(Script, 1);

    script->refused = refuse_write(bytes, len);
    script->text = script->refused ? NULL : g_strndup(bytes, len);
    script->rest = script->text;
    script->with_image = with_image;
    return script;
}

Script *script_new_refused(size_t len, int error, const char *reason)
{
    Script *script = g_new0(Script, 1);

    script->refused = refuse(error, len, reason);
    return script;
}

void script_free(Script *script)
{
    if (!script)
        return;
    command_free(script->refused);
    g_free(script->text);
    g_free(script);
}

/* The next line, without the blanks before it and its end, which may be "\r\n". NULL: none. */
static char *next_line(Script *script)
{
    char *line = strsep(&script->rest, "\n");

    if (line && g_str_has_suffix(line, "\r"))
        line[strlen(line) - 1] = '\0';
    return line ? line + strspn(line, " \t") : NULL;
}

Command *script_next(Script *script)
{
    Command *command = g_steal_pointer(&script->refused);
    char *line;

    while (!command && (line = next_line(script)))
        command = parse_line(line, script->with_image);
    return command;
}

/* One word, quoted only where a shell would need it. */
static void append_word(GString *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+.,:@%/=^~";
    bool is_plain = *word && *word != '~' && word[strspn(word, plain)] == '\0';
    g_autofree char *quoted = is_plain ? g_strdup(word) : g_shell_quote(word);

    g_string_append_printf(out, "%s%s", out->len ? " " : "", quoted);
}

char *command_to_text(const Command *command, const char *image)
{
    g_autoptr(GString) out = g_string_new(NULL);

    append_word(out, verbs[command->verb].word);
    if (image)
        append_word(out, image);
    if (command->name)
        append_word(out, command->name);
    if (command->new_name)
        append_word(out, command->new_name);
    return text_one_line(out->str);
}

char *command_help(bool with_image)
{
    GString *help = g_string_new("# Commands, one per line, arguments quoted as in a shell");

    g_string_append(help, with_image ? "; IMAGE is a path in this tree:\n" : ":\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *usage = verb_usage(i, with_image);

        g_string_append_printf(help, "#   %-*s %s\n", with_image ? 20 : 14, usage,
                               verbs[i].meaning);
    }
    g_string_append(help, "# Recent results, newest last:\n");
    return g_string_free(help, FALSE);
}
