/*
 * log.c - see log.h.
 *
 * Where lines go is set before there are threads, and only read from then on. Lines may be logged
 * by any thread: syslog(), stdio and the keeper's socket each keep a line whole. The only lock is
 * that of said_just_now(), for what libfuse said last.
 */
#include "log.h"

#include "text.h"

#include <fuse_log.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

enum {
    REPEAT_SECONDS = 10, /* for which the same complaint of libfuse's is not said again */
};

/* Written before threads start. */
static bool to_syslog;
static LogSink sink;
static void *sink_data;

void log_to_syslog(void)
{
    openlog("snaptree", LOG_PID, LOG_DAEMON);
    to_syslog = true;
}

void log_to_sink(LogSink to, void *data)
{
    sink = to;
    sink_data = data;
}

bool log_takes_lines(void)
{
    struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};

    return sink || to_syslog || poll(&standard_error, 1, 0) == 1;
}

void log_line(int priority, const char *said)
{
    g_autofree char *line = text_one_line(said);

    if (sink)
        sink(sink_data, priority, line);
    else if (to_syslog)
        syslog(priority, "%s", line);
    else
        fprintf(stderr, "snaptree: %s\n", line);
}

static void log_text(int priority, const char *format, va_list args) G_GNUC_PRINTF(2, 0);
static void log_text(int priority, const char *format, va_list args)
{
    g_autofree char *line = g_strdup_vprintf(format, args);

    log_line(priority, g_strchomp(line));
}

void log_info(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_text(LOG_INFO, format, args);
    va_end(args);
}

void log_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_text(LOG_ERR, format, args);
    va_end(args);
}

/* While threads or memory are short, libfuse says so for each request. */
static bool said_just_now(const char *format)
{
    static GMutex lock;
    static const char *last; /* a constant of libfuse's; lock */
    static gint64 last_time; /* monotonic, microseconds; lock */
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
    gint64 now = g_get_monotonic_time();

    if (format == last && now - last_time < REPEAT_SECONDS * G_TIME_SPAN_SECOND)
        return true;
    last = format;
    last_time = now;
    return false;
}

static void from_fuse(enum fuse_log_level level, const char *format, va_list args)
    G_GNUC_PRINTF(2, 0);
static void from_fuse(enum fuse_log_level level, const char *format, va_list args)
{
    if (said_just_now(format))
        return;
    log_text((int)level, format, args); /* libfuse's levels are those of syslog */
}

/* Mostly why it ends the process, which cannot create a thread or has no memory. */
static void from_glib(const char *domain G_GNUC_UNUSED, GLogLevelFlags level, const char *message,
                      void *data G_GNUC_UNUSED)
{
    if (!(level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG)))
        log_error("%s", message);
}

void log_catch_libraries(void)
{
    fuse_set_log_func(from_fuse);
    g_log_set_default_handler(from_glib, NULL);
}
