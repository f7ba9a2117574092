/* writer.c - see writer.h. */
#include "writer.h"

#include <glib.h>
#include <signal.h>
#include <string.h>

enum {
    EXITING = 0x4, /* PF_EXITING: set while asynchronous writes are waited for */
};

static guint64 bit_of(int number)
{
    return G_GUINT64_CONSTANT(1) << (number - 1);
}

/* The set behind a key of /proc/PID/status. */
static guint64 set_of(const char *status, const char *key)
{
    const char *line = strstr(status, key);

    return line ? g_ascii_strtoull(line + strlen(key), NULL, 16) : 0;
}

bool writer_asked_to_stop(pid_t thread, bool otherwise)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)thread);
    g_autofree char *status = NULL;
    const guint64 stop = bit_of(SIGINT) | bit_of(SIGTERM) | bit_of(SIGHUP) | bit_of(SIGQUIT) |
                         bit_of(SIGKILL) | bit_of(SIGPIPE);

    if (!g_file_get_contents(path, &status, NULL, NULL))
        return otherwise; /* of another user, or not in our namespace (0) */

    guint64 blocked = set_of(status, "\nSigBlk:") & ~bit_of(SIGKILL);
    guint64 pending = set_of(status, "\nSigPnd:") | set_of(status, "\nShdPnd:");
    return (pending & ~blocked & stop) != 0;
}

/* The flags of a thread, from /proc/PID/stat: the ninth field, the second being a name in brackets
 * that may hold anything. */
static guint64 flags_of(const char *stat)
{
    const char *at = strrchr(stat, ')');

    for (unsigned field = 2; at && field < 9; field++)
        at = strchr(at + 1, ' ');
    return at ? g_ascii_strtoull(at, NULL, 10) : 0;
}

bool writer_has_ended(pid_t thread, bool *seen)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)thread);
    g_autofree char *stat = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_file_get_contents(path, &stat, NULL, &error))
        return *seen && g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    *seen = true;
    return (flags_of(stat) & EXITING) != 0;
}
