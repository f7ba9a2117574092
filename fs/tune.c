#include "tune.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char read_ahead_kib[] = "1024";

void tune_open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The mountpoint as mountinfo writes it: spaces and the like in octal. */
static char *escape_mountpoint(const char *path)
{
    GString *out = g_string_new(NULL);

    for (; *path; path++) {
        if (strchr(" \t\n\\", *path))
            g_string_append_printf(out, "\\%03o", (unsigned char)*path);
        else
            g_string_append_c(out, *path);
    }
    return g_string_free(out, FALSE);
}

/* "0:53" of the last mount at a mountpoint; NULL when not found (g_free). */
static char *device_of(const char *mountpoint)
{
    g_autofree char *wanted = escape_mountpoint(mountpoint);
    g_autofree char *text = NULL;
    char *device = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;

    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        /* id, parent, major:minor, root, mountpoint, ... */
        g_auto(GStrv) fields = g_strsplit(*line, " ", 6);

        if (g_strv_length(fields) > 5 && strcmp(fields[4], wanted) == 0) {
            g_free(device);
            device = g_strdup(fields[2]);
        }
    }
    return device;
}

static gpointer set_read_ahead(gpointer data)
{
    g_autofree char *device = device_of(data);
    g_autofree char *path =
        device ? g_strdup_printf("/sys/class/bdi/%s/read_ahead_kb", device) : NULL;
    int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        ssize_t written = write(fd, read_ahead_kib, strlen(read_ahead_kib));

        (void)written;
        close(fd);
    }
    return NULL;
}

void tune_read_ahead(Fs *fs)
{
    static GOnce once = G_ONCE_INIT;

    g_once(&once, set_read_ahead, fs->mountpoint);
}
