/* path.c - see path.h. */
#include "path.h"
#include "qcow.h"
#include "strings.h"
#include <string.h>

/* ---- names of backing files ------------------------------------------------------------- */

static bool has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

const char *qc_path_of_name(const char *name)
{
    if (g_str_has_prefix(name, "file:"))
        return name + strlen("file:");
    return has_protocol(name) ? NULL : name;
}

char *qc_path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path) + 1 : 0;
    return qc_strdup_printf("%.*s%s", dir_len, path, name);
}

char *qc_backing_full_name(const char *overlay, const char *name)
{
    if (has_protocol(name) || name[0] == '/')
        return qc_strdup_printf("%s", name);
    return qc_path_beside(overlay, name);
}

/* ---- inside a directory ----------------------------------------------------------------- */

char *qc_path_under(const char *dir, const char *path)
{
    bool absolute = path[0] == '/', is_root = g_str_equal(dir, "/");
    return qc_strdup_printf("%s%s%s", absolute || is_root ? "" : dir, absolute ? "" : "/", path);
}

/* The length of the name that path begins with; slashes before it are passed, and "." as well. */
static size_t next_name(const char **path)
{
    for (;;) {
        *path += strspn(*path, "/");
        size_t n = strcspn(*path, "/");
        if (n != 1 || **path != '.')
            return n;
        *path += n;
    }
}

static bool is_parent(const char *name, size_t n)
{
    return n == 2 && memcmp(name, "..", 2) == 0;
}

/* The first len bytes of dir without the last name in them. */
static size_t cut_name(const char *dir, size_t len)
{
    while (len > 0 && dir[--len] != '/')
        ;
    return len;
}

/* Whether the name of n bytes is the one that follows in dir. */
static bool goes_on_with(const char *dir, const char *name, size_t n)
{
    return strncmp(dir, name, n) == 0 && (dir[n] == '/' || dir[n] == '\0');
}

/* The length of dir when names are put behind it. */
static size_t length_of(const char *dir)
{
    return g_str_equal(dir, "/") ? 0 : strlen(dir);
}

/*
 * What is left of path where it names something beneath dir, or NULL. It begins at the directory
 * that the first at bytes of dir name, and follows dir's names down, and up again where none of
 * them is a link.
 */
static const char *follow(const char *path, const char *dir, size_t at, bool no_links)
{
    size_t all = length_of(dir);
    for (;;) {
        size_t n = next_name(&path);
        bool up = is_parent(path, n);
        if (n == 0 || (up && !no_links))
            return NULL;
        if (up)
            at = cut_name(dir, at);
        else if (at == all)
            return path;
        else if (goes_on_with(dir + at + 1, path, n))
            at += n + 1;
        else
            return NULL;
        path += n;
    }
}

const char *qc_path_strip(const char *path, const char *dir, bool no_links)
{
    return follow(path, dir, 0, no_links);
}

const char *qc_path_come_back(const char *path, const char *dir, size_t *ret_before)
{
    const char *at = path;
    unsigned depth = 0; /* names beneath dir */
    for (;;) {
        size_t n = next_name(&at);
        bool up = is_parent(at, n);
        if (n == 0)
            return NULL;
        if (up && depth == 0)
            break;
        depth = up ? depth - 1 : depth + 1;
        at += n;
    }
    *ret_before = (size_t)(at - path);
    return follow(at, dir, length_of(dir), true);
}
