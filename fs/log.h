/* log.h - the daemon's few words: to standard error in the foreground, else to syslog. */
#ifndef SNAPTREE_LOG_H
#define SNAPTREE_LOG_H

#include <glib.h>

void log_to_syslog(void);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Send what libfuse has to say the same way. */
void log_catch_fuse(void);

#endif
