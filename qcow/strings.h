/*
 * strings.h - strings that are freed together. An image decides how many there are and how long
 * they are, so keeping one may fail.
 */
#ifndef QCOW_STRINGS_H
#define QCOW_STRINGS_H

#include <glib.h>

typedef struct QcStringBlock QcStringBlock;

/* None when zero. */
typedef struct QcStrings {
    QcStringBlock *blocks;
} QcStrings;

/* A copy of len bytes with a '\0' behind them. NULL: no memory. */
const char *qc_strings_keep(QcStrings *strings, const void *bytes, size_t len);

void qc_strings_clear(QcStrings *strings);

#endif
