/* text.c - see text.h. */
#include "text.h"

#include <string.h>

size_t text_character(const char *bytes, size_t len, gunichar *ret)
{
    unsigned char byte = (unsigned char)*bytes;

    *ret = byte < 0x80 ? byte : g_utf8_get_char_validated(bytes, (gssize)len);
    if (*ret > 0x10ffff)
        *ret = byte;
    else if (*ret >= 0x80)
        return (size_t)g_unichar_to_utf8(*ret, NULL);
    return 1;
}

bool text_is_control(gunichar c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f);
}

char *text_one_line(const char *text)
{
    GString *out = g_string_new(NULL);
    size_t left = strlen(text);
    gunichar c;

    for (size_t n; left > 0; text += n, left -= n) {
        n = text_character(text, left, &c);
        if (!text_is_control(c))
            g_string_append_len(out, text, (gssize)n);
        for (size_t i = 0; text_is_control(c) && i < n; i++)
            g_string_append_printf(out, "\\x%02x", (unsigned char)text[i]);
    }
    return g_string_free(out, FALSE);
}

char *text_utf8(const char *text)
{
    return g_utf8_make_valid(text, -1);
}
