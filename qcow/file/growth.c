/* growth.c - see growth.h. */
#include "growth.h"
#include <glib.h>

/* How long another program may take from opening a file to locking it. */
#define OPEN_TO_LOCK_US 50000

void qc_growth_note(QcGrowth *growth, uint64_t size)
{
    if (size <= growth->size)
        return;
    growth->size = size;
    growth->grown = g_get_monotonic_time();
}

void qc_growth_wait(QcGrowth *growth)
{
    if (!growth->grown)
        return;
    int64_t left = growth->grown + OPEN_TO_LOCK_US - g_get_monotonic_time();
    growth->grown = 0;
    if (left > 0)
        g_usleep((gulong)left);
}
