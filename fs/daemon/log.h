/*
 * log.h - the daemon's few words: to standard error in the foreground, else to syslog, or to
 * wherever the lines are sent.
 */
#ifndef SNAPTREE_LOG_H
#define SNAPTREE_LOG_H

#include <glib.h>
#include <stdbool.h>

void log_to_syslog(void);

/* Where lines go instead. Priorities are those of syslog. Set before there are threads. */
typedef void (*LogSink)(void *data, int priority, const char *line);
void log_to_sink(LogSink to, void *data); /* NULL: no longer */

/*
 * Whether a line is taken at once, as far as can be told: standard error may be a pipe that nobody
 * reads. For those on whom no end must wait.
 */
bool log_takes_lines(void);

void log_line(int priority, const char *line);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Send what libfuse and GLib have to say the same way. */
void log_catch_libraries(void);

#endif
