/*
 * holder.c - see holder.h.
 *
 * Many processes may have a file open without being the reason that a command is refused: those
 * that are have a lock.
 */
#include "holder.h"

#include "text.h"

enum {
    HOLDERS_SHOWN = 4,
};

static char *describe(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/comm", (int)pid);
    g_autofree char *raw = NULL;

    if (!g_file_get_contents(path, &raw, NULL, NULL))
        return g_strdup_printf("process %d", (int)pid);

    g_autofree char *name = text_one_line(g_strchomp(raw));
    return g_strdup_printf("%s (process %d)", name, (int)pid);
}

/* The processes in an array of OpenFile, each once. */
static GArray *processes_of(const GArray *files)
{
    GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));

    for (guint i = 0; i < files->len; i++) {
        pid_t pid = g_array_index(files, OpenFile, i).pid;

        if (pids->len == 0 || g_array_index(pids, pid_t, pids->len - 1) != pid)
            g_array_append_val(pids, pid);
    }
    return pids;
}

char *holder_names(const GArray *files)
{
    g_autoptr(GArray) pids = processes_of(files);
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < MIN(pids->len, HOLDERS_SHOWN); i++) {
        g_autofree char *name = describe(g_array_index(pids, pid_t, i));

        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", name);
    }
    if (pids->len == 0)
        return NULL;
    g_string_append_printf(names, "%s %s", pids->len > HOLDERS_SHOWN ? ", others" : "",
                           pids->len == 1 ? "has" : "have");
    return g_string_free(g_steal_pointer(&names), FALSE);
}

static bool is_same_file(const QcFileStat *stat, const void *file)
{
    return qc_file_same_file(stat, file);
}

char *holder_find(const QcFileStat *file, pid_t except)
{
    g_autoptr(GArray) open = openfiles_find(is_same_file, file, except, NULL);
    g_autoptr(GArray) locked = g_array_new(FALSE, FALSE, sizeof(OpenFile));

    for (guint i = 0; i < open->len; i++) {
        if (g_array_index(open, OpenFile, i).bars_writer)
            g_array_append_val(locked, g_array_index(open, OpenFile, i));
    }
    return holder_names(locked->len > 0 ? locked : open);
}
