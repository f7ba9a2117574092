#include "text.h"

char *text_one_line(const char *text)
{
    GString *out = g_string_new(NULL);

    for (; *text; text++) {
        if (g_ascii_iscntrl(*text))
            g_string_append_printf(out, "\\x%02x", (unsigned char)*text);
        else
            g_string_append_c(out, *text);
    }
    return g_string_free(out, FALSE);
}

char *text_utf8(const char *text)
{
    return g_utf8_make_valid(text, -1);
}
