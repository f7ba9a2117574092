/*
 * words.c - see words.h.
 *
 * A word ends at the first blank that is not quoted, and a word that begins with an unquoted #
 * begins a comment. So quotes are followed here, but only to find where a word ends: what it says,
 * GLib knows. (g_shell_parse_argv() would do both, but takes each # behind a blank for the
 * beginning of a comment, even if a backslash quotes that blank: of "take build\ #42" it makes
 * "build ".)
 */
#include "words.h"

#include "qcow.h"

#include <errno.h>
#include <string.h>

#define BLANKS " \t"

static const char bad_quoting[] = "bad quoting: a quote is not closed, or nothing follows a \\";
static const char bash_quoting[] =
    "$'...' is not understood; write '...', and %XX for a byte as snapshots/ shows it";

/* Behind the quote that closes the one at text; NULL: nothing does. */
static const char *skip_quoted(const char *text)
{
    char quote = *text++;

    while (*text && *text != quote)
        text += quote == '"' && text[0] == '\\' && text[1] ? 2 : 1;
    return *text ? text + 1 : NULL;
}

/* Behind the character at text, and all that is quoted together with it. NULL: EINVAL. */
static const char *skip(const char *text, GError **error)
{
    const char *wrong = bad_quoting, *next = text + 1;

    if (*text == '\'' || *text == '"')
        next = skip_quoted(text);
    else if (*text == '\\')
        next = text[1] ? text + 2 : NULL;
    else if (g_str_has_prefix(text, "$'"))
        next = NULL, wrong = bash_quoting;
    if (!next)
        g_set_error_literal(error, QC_ERROR, EINVAL, wrong);
    return next;
}

/* The word at *at, which is left behind it (g_free). NULL: EINVAL. */
static char *take_word(const char **at, GError **error)
{
    const char *end = *at;

    while (end && *end && !strchr(BLANKS, *end))
        end = skip(end, error);
    if (!end)
        return NULL;

    g_autofree char *quoted = g_strndup(*at, (gsize)(end - *at));
    *at = end;
    return g_shell_unquote(quoted, error);
}

char **words_split(const char *line, GError **error)
{
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();
    const char *at = line + strspn(line, BLANKS);

    for (; *at && *at != '#'; at += strspn(at, BLANKS)) {
        g_autofree char *word = take_word(&at, error);

        if (!word)
            return NULL;
        g_strv_builder_add(words, word);
    }
    return g_strv_builder_end(words);
}
