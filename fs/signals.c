#include "signals.h"

#include <glib.h>
#include <signal.h>
#include <string.h>

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

bool signals_ask_to_stop(pid_t thread)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)thread);
    g_autofree char *status = NULL;
    const guint64 stop = bit_of(SIGINT) | bit_of(SIGTERM) | bit_of(SIGHUP) | bit_of(SIGQUIT) |
                         bit_of(SIGKILL) | bit_of(SIGPIPE);

    if (!g_file_get_contents(path, &status, NULL, NULL))
        return true;
    return ((set_of(status, "\nSigPnd:") | set_of(status, "\nShdPnd:")) & stop) != 0;
}
