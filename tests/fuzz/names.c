/*
 * Fuzz target: how snapshots' names are shown in a directory. The input is a list of names and
 * ids, each behind its length.
 */
#include "names.h"
#include "fuzz.h"
#include <string.h>

enum {
    MAX_NAMES = 64,
};

static void check_shown(const char *shown)
{
    size_t len = strlen(shown);
    fuzz_require(len > 0 && len <= NAMES_MAX, "%zu bytes", len);
    fuzz_require(strcmp(shown, ".") != 0 && strcmp(shown, "..") != 0);
    for (size_t i = 0; i < len; i++)
        fuzz_require(shown[i] != '/' && !g_ascii_iscntrl(shown[i]), "byte %d", shown[i]);
}

/* Escaping can be undone, and is done only where needed. */
static void check_escape(const QcSnapshot *snapshot)
{
    g_autofree char *shown = name_escape(snapshot->name, snapshot->name_len);
    g_autoptr(GBytes) back = name_from_argument(shown);
    gsize len;
    const void *bytes = g_bytes_get_data(back, &len);
    fuzz_require(len == snapshot->name_len, "%zu bytes became %zu", snapshot->name_len, len);
    fuzz_require(len == 0 || memcmp(bytes, snapshot->name, len) == 0, "%s", shown);
}

static void check_table(const Names *names, const QcSnapshot *snapshots, unsigned n)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    fuzz_require(names_count(names) == n);
    for (unsigned i = 0; i < n; i++) {
        const char *shown = names_shown(names, i);
        unsigned found;
        check_shown(shown);
        fuzz_require(g_hash_table_add(seen, (gpointer)shown), "%s comes twice", shown);
        fuzz_require(names_find(names, shown, &found) == 0 && found == i, "%s", shown);
        fuzz_require(names_resolve(names, shown, &found) == 0 && found == i, "%s", shown);
        check_escape(&snapshots[i]);
    }
}

/* A name in a block of its own size, so that reading past it is found. */
static char *take_bytes(FuzzBytes *in, size_t *ret_len)
{
    size_t len = (size_t)fuzz_take(in, 1);
    if (len == 255) /* long ones need not be long in the input */
        len = 200 + (size_t)fuzz_take(in, 1);
    char *bytes = g_malloc(MAX(len, 1));
    uint8_t last = 'x';
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(in->left > 0 ? last = (uint8_t)fuzz_take(in, 1) : last);
    *ret_len = len;
    return bytes;
}

void fuzz_input(const uint8_t *data, size_t size)
{
    FuzzBytes in = {data, size};
    QcSnapshot snapshots[MAX_NAMES] = {0};
    unsigned n = 0;
    while (in.left > 0 && n < MAX_NAMES) {
        size_t id_len;
        snapshots[n].name = take_bytes(&in, &snapshots[n].name_len);
        g_autofree char *id = take_bytes(&in, &id_len);
        snapshots[n++].id = g_strndup(id, id_len);
    }
    g_autoptr(Names) names = names_new(snapshots, n);
    check_table(names, snapshots, n);
    for (unsigned i = 0; i < n; i++) {
        g_free((char *)snapshots[i].name);
        g_free((char *)snapshots[i].id);
    }
}
