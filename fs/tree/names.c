/* names.c - see names.h. */
#include "names.h"

#include "text.h"

#include <errno.h>
#include <string.h>

struct Names {
    const QcSnapshot *snapshots; /* borrowed */
    QcSnapshot *owned;           /* they, where they are of this table; or NULL */
    bool all_plain;              /* every name is shown as it is */
    unsigned count;
    char **shown;
    GHashTable *index; /* shown (borrowed) -> index + 1 */
};

/* ---- escaping ---------------------------------------------------------------------------- */

/* Characters that cannot be in a file name, and control characters, which terminals obey. */
static bool must_escape(gunichar c)
{
    return text_is_control(c) || c == '/' || c == '%';
}

static bool is_dots(const char *bytes, size_t len)
{
    return (len == 1 || len == 2) && memcmp(bytes, "..", len) == 0;
}

char *name_escape(const char *bytes, size_t len)
{
    GString *out = g_string_sized_new(len + 1);
    bool dots = is_dots(bytes, len);
    gunichar c;

    for (size_t i = 0, n; i < len; i += n) {
        n = text_character(bytes + i, len - i, &c);
        if (!dots && !must_escape(c))
            g_string_append_len(out, bytes + i, (gssize)n);
        for (size_t k = i; (dots || must_escape(c)) && k < i + n; k++)
            g_string_append_printf(out, "%%%02X", (unsigned char)bytes[k]);
    }
    return g_string_free(out, FALSE);
}

/* The bytes behind %XX; a '%' that starts no such thing stays. */
static GByteArray *unescape(const char *text)
{
    GByteArray *out = g_byte_array_new();

    while (*text) {
        guint8 byte = (guint8)*text;

        if (*text == '%' && g_ascii_isxdigit(text[1]) && g_ascii_isxdigit(text[2])) {
            byte = (guint8)(g_ascii_xdigit_value(text[1]) << 4 | g_ascii_xdigit_value(text[2]));
            text += 2;
        }
        g_byte_array_append(out, &byte, 1);
        text++;
    }
    return out;
}

GBytes *name_from_argument(const char *arg)
{
    g_autoptr(GByteArray) bytes = unescape(arg);
    g_autofree char *again = name_escape((const char *)bytes->data, bytes->len);

    if (strchr(arg, '%') && strcmp(again, arg) == 0)
        return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
    return g_bytes_new(arg, strlen(arg));
}

/* ---- cutting ----------------------------------------------------------------------------- */

/* The largest place, at most max, where escaped text can be cut. */
static size_t cut_at(const char *text, size_t max)
{
    size_t len = strlen(text);

    if (len <= max)
        return len;
    if (max >= 1 && text[max - 1] == '%')
        return max - 1;
    if (max >= 2 && text[max - 2] == '%')
        return max - 2;
    /* Back to the start of the character; no character has more than three bytes behind it. */
    size_t cut = max;
    while (cut > 0 && max - cut < 3 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--;
    return ((unsigned char)text[cut] & 0xc0) == 0x80 ? max : cut;
}

char *name_fit(const char *base, const char *suffix)
{
    size_t suffix_len = cut_at(suffix, NAMES_MAX);
    size_t base_len = cut_at(base, NAMES_MAX - suffix_len);

    return g_strdup_printf("%.*s%.*s", (int)base_len, base, (int)suffix_len, suffix);
}

/* ---- the table --------------------------------------------------------------------------- */

/* How often each string occurs. Keys are borrowed. */
static void count_one(GHashTable *counts, char *key)
{
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(counts, key));

    g_hash_table_insert(counts, key, GUINT_TO_POINTER(n + 1));
}

static guint count_of(GHashTable *counts, const char *key)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(counts, key));
}

/* "~ID", short enough to leave room for the name itself. */
static char *id_suffix(const QcSnapshot *snapshot)
{
    g_autofree char *id = name_escape(snapshot->id, strlen(snapshot->id));

    return g_strdup_printf("~%.*s", (int)cut_at(id, NAMES_MAX / 2), id);
}

static void show(Names *names, unsigned i, char *shown)
{
    names->shown[i] = shown;
    g_hash_table_insert(names->index, shown, GUINT_TO_POINTER(i + 1));
}

/* Show every name that can stand as it is; they come first, so that no suffix takes theirs. */
static void show_plain(Names *names, char **escaped)
{
    g_autoptr(GHashTable) counts = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < names->count; i++)
        count_one(counts, escaped[i]);
    for (unsigned i = 0; i < names->count; i++) {
        size_t len = strlen(escaped[i]);

        if (len > 0 && len <= NAMES_MAX && count_of(counts, escaped[i]) == 1)
            show(names, i, g_strdup(escaped[i]));
    }
}

/* Show the others with ~ID, where that makes them unique. */
static void show_with_id(Names *names, char **escaped)
{
    g_autoptr(GHashTable) counts = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) wanted = g_ptr_array_new_full(names->count, g_free);

    for (unsigned i = 0; i < names->count; i++) {
        g_autofree char *suffix = names->shown[i] ? NULL : id_suffix(&names->snapshots[i]);

        g_ptr_array_add(wanted, suffix ? name_fit(escaped[i], suffix) : NULL);
        if (suffix)
            count_one(counts, wanted->pdata[i]);
    }
    for (unsigned i = 0; i < names->count; i++) {
        char *name = wanted->pdata[i];

        if (name && count_of(counts, name) == 1 && !g_hash_table_contains(names->index, name))
            show(names, i, g_strdup(name));
    }
}

/* Show the rest, whose ids are not their own: their places in the table make them unique. */
static void show_with_place(Names *names, char **escaped)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (names->shown[i])
            continue;

        g_autofree char *id = id_suffix(&names->snapshots[i]);
        g_autofree char *suffix = g_strdup_printf("%s~%u", id, i);
        g_autofree char *name = name_fit(escaped[i], suffix);

        for (unsigned k = 0; g_hash_table_contains(names->index, name); k++) {
            g_autofree char *longer = g_strdup_printf("%s~%u", suffix, k);

            g_free(name);
            name = name_fit(escaped[i], longer);
        }
        show(names, i, g_steal_pointer(&name));
    }
}

bool names_room_for(const QcInfo *info, size_t each)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < info->n_snapshots; i++)
        bytes += each + (uint64_t)info->snapshots[i].name_len * 16;
    return qc_room_for(bytes);
}

Names *names_new(const QcSnapshot *snapshots, unsigned count)
{
    Names *names = g_new0(Names, 1);
    g_autoptr(GPtrArray) escaped = g_ptr_array_new_full(count, g_free);

    names->snapshots = snapshots;
    names->count = count;
    names->shown = g_new0(char *, (gsize)count + 1);
    names->index = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < count; i++)
        g_ptr_array_add(escaped, name_escape(snapshots[i].name, snapshots[i].name_len));

    show_plain(names, (char **)escaped->pdata);
    names->all_plain = g_hash_table_size(names->index) == count;
    if (!names->all_plain) {
        show_with_id(names, (char **)escaped->pdata);
        show_with_place(names, (char **)escaped->pdata);
    }
    return names;
}

void names_free(Names *names)
{
    if (!names)
        return;
    g_hash_table_unref(names->index);
    for (unsigned i = 0; i < names->count; i++)
        g_free(names->shown[i]);
    g_free(names->shown);
    g_free(names->owned);
    g_free(names);
}

unsigned names_count(const Names *names)
{
    return names->count;
}

const char *names_shown(const Names *names, unsigned index)
{
    return names->shown[index];
}

int names_find(const Names *names, const char *shown, unsigned *ret)
{
    guint found = GPOINTER_TO_UINT(g_hash_table_lookup(names->index, shown));

    if (found == 0)
        return -ENOENT;
    *ret = found - 1;
    return 0;
}

static bool has_name(const QcSnapshot *snapshot, const char *name, size_t len)
{
    return snapshot->name_len == len && memcmp(snapshot->name, name, len) == 0;
}

static bool is_meant(const QcSnapshot *snapshot, const char *arg)
{
    return has_name(snapshot, arg, strlen(arg));
}

int names_resolve(const Names *names, const char *arg, unsigned *ret)
{
    unsigned found = 0, matches = 0;

    if (names_find(names, arg, ret) == 0)
        return 0;
    for (unsigned i = 0; i < names->count; i++) {
        if (is_meant(&names->snapshots[i], arg)) {
            found = i;
            matches++;
        }
    }
    if (matches == 1)
        *ret = found;
    return matches == 1 ? 0 : matches == 0 ? -ENOENT : -ENOTUNIQ;
}

char **names_meant(const Names *names, const char *arg)
{
    g_autoptr(GStrvBuilder) meant = g_strv_builder_new();

    for (unsigned i = 0; i < names->count; i++) {
        if (is_meant(&names->snapshots[i], arg))
            g_strv_builder_add(meant, names->shown[i]);
    }
    return g_strv_builder_end(meant);
}

Names *names_without(const Names *names, unsigned index)
{
    if (names->all_plain)
        return NULL;
    QcSnapshot *rest = g_try_new(QcSnapshot, names->count);
    if (!rest)
        return NULL;
    for (unsigned i = 0; i < names->count; i++) {
        if (i != index)
            rest[i - (i > index)] = names->snapshots[i];
    }
    Names *without = names_new(rest, names->count - 1);
    without->owned = rest;
    return without;
}
