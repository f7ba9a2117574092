/* strings.h - strings for which there may be no memory, where GLib's would end the process. */
#ifndef QCOW_STRINGS_H
#define QCOW_STRINGS_H

#include <glib.h>

/* As g_strdup_printf() (g_free), but NULL: no memory. */
char *qc_strdup_printf(const char *format, ...) G_GNUC_PRINTF(1, 2);

typedef struct QcStringBlock QcStringBlock;

/* Strings that are freed together: an image decides how many there are. None when zero. */
typedef struct QcStrings {
    QcStringBlock *blocks;
} QcStrings;

/* A copy of len bytes with a '\0' behind them. NULL: no memory. */
const char *qc_strings_keep(QcStrings *strings, const void *bytes, size_t len);

void qc_strings_clear(QcStrings *strings);

#endif
