/* json.c - see json.h. */
#include "json.h"

#include "text.h"

enum {
    INDENT = 4,
};

static void new_line(Json *json)
{
    g_string_append_printf(json->text, "\n%*s", (int)json->depth * INDENT, "");
}

static void put_quoted(GString *text, const char *value)
{
    g_autofree char *valid = text_utf8(value);

    g_string_append_c(text, '"');
    for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);

        if (text_is_control(c))
            g_string_append_printf(text, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            g_string_append_printf(text, "\\%c", (char)c);
        else
            g_string_append_unichar(text, c);
    }
    g_string_append_c(text, '"');
}

/* Put what stands before a value: a comma, a new line, the key. */
static void lead(Json *json, const char *key)
{
    if (json->has_members)
        g_string_append_c(json->text, ',');
    if (json->depth > 0)
        new_line(json);
    json->has_members = true;
    if (key) {
        put_quoted(json->text, key);
        g_string_append(json->text, ": ");
    }
}

static void begin(Json *json, const char *key, char bracket)
{
    lead(json, key);
    g_string_append_c(json->text, bracket);
    json->depth++;
    json->has_members = false;
}

static void end(Json *json, char bracket)
{
    json->depth--;
    if (json->has_members)
        new_line(json);
    g_string_append_c(json->text, bracket);
    json->has_members = true;
}

void json_begin_object(Json *json, const char *key)
{
    begin(json, key, '{');
}

void json_end_object(Json *json)
{
    end(json, '}');
}

void json_begin_array(Json *json, const char *key)
{
    begin(json, key, '[');
}

void json_end_array(Json *json)
{
    end(json, ']');
}

void json_put_string(Json *json, const char *key, const char *value)
{
    lead(json, key);
    put_quoted(json->text, value);
}

void json_put_int(Json *json, const char *key, uint64_t value)
{
    lead(json, key);
    g_string_append_printf(json->text, "%" G_GINT64_FORMAT, (int64_t)value);
}

void json_put_bool(Json *json, const char *key, bool value)
{
    lead(json, key);
    g_string_append(json->text, value ? "true" : "false");
}
