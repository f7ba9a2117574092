#include "log.h"

#define FUSE_USE_VERSION 314
#include <fuse_log.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static gint to_syslog; /* atomic; written once, before threads start */

void log_to_syslog(void)
{
    openlog("snaptree", LOG_PID, LOG_DAEMON);
    g_atomic_int_set(&to_syslog, 1);
}

static void log_line(int priority, const char *format, va_list args) G_GNUC_PRINTF(2, 0);
static void log_line(int priority, const char *format, va_list args)
{
    g_autofree char *line = g_strdup_vprintf(format, args);

    g_strchomp(line);
    if (g_atomic_int_get(&to_syslog))
        syslog(priority, "%s", line);
    else
        fprintf(stderr, "snaptree: %s\n", line);
}

void log_info(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(LOG_INFO, format, args);
    va_end(args);
}

void log_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(LOG_ERR, format, args);
    va_end(args);
}

static void from_fuse(enum fuse_log_level level, const char *format, va_list args)
    G_GNUC_PRINTF(2, 0);
static void from_fuse(enum fuse_log_level level, const char *format, va_list args)
{
    log_line((int)level, format, args); /* libfuse's levels are those of syslog */
}

void log_catch_fuse(void)
{
    fuse_set_log_func(from_fuse);
}
