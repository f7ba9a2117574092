#include "holder.h"

#include "text.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    HOLDERS_SHOWN = 4,
};

static bool has_open(const char *pid, const QcFileStat *file)
{
    g_autofree char *path = g_build_filename("/proc", pid, "fd", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *fd = g_build_filename(path, name, NULL);
        struct statx st;

        /* Not to ask the file's own file system: it may be one that does not answer. */
        if (statx(AT_FDCWD, fd, AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 &&
            makedev(st.stx_dev_major, st.stx_dev_minor) == file->dev && st.stx_ino == file->ino)
            return true;
    }
    return false;
}

static char *describe(const char *pid)
{
    g_autofree char *path = g_build_filename("/proc", pid, "comm", NULL);
    g_autofree char *raw = NULL;

    if (!g_file_get_contents(path, &raw, NULL, NULL))
        return g_strdup_printf("process %s", pid);

    g_autofree char *name = text_one_line(g_strchomp(raw));
    return g_strdup_printf("%s (process %s)", name, pid);
}

char *holder_find(const QcFileStat *file, pid_t except)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (proc && found->len < HOLDERS_SHOWN && (name = g_dir_read_name(proc))) {
        bool other = g_ascii_isdigit(*name) && strtol(name, NULL, 10) != except;

        if (other && has_open(name, file))
            g_ptr_array_add(found, describe(name));
    }
    if (found->len == 0)
        return NULL;
    g_ptr_array_add(found, NULL);
    return g_strjoinv(", ", (char **)found->pdata);
}
