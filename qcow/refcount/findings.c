/* findings.c - see findings.h. */
#include "findings.h"
#include <stdarg.h>
#include <stdio.h>

static void find(QcCheck *findings, uint64_t n, const char *format, va_list args)
{
    if (findings->errors == 0 && n > 0)
        vsnprintf(findings->first, sizeof(findings->first), format, args);
    findings->errors += n;
}

void qc_find(QcCheck *findings, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    find(findings, 1, format, args);
    va_end(args);
}

void qc_find_several(QcCheck *findings, uint64_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    find(findings, n, format, args);
    va_end(args);
}
