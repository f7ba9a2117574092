/*
 * pace.c - see pace.h.
 *
 * From the moment when bytes are handed out until their reader asks for more, they are copied to
 * it, it is woken, does what it does, and the thread that takes its next request is woken. Which of
 * these takes long cannot be seen; so a reader is quick if all of them together take no longer than
 * copying and waking do on a usual machine. On a slow one, no reader is.
 */
#include "pace.h"

enum {
    WAKING_US = 20,
    BYTES_PER_US = 6000, /* that are copied */
    MAX_VOTES = 16,
    QUICK = 8, /* votes */
};

void pace_asked(Pace *pace, gint64 now, size_t len)
{
    if (pace->handed < pace->asked) /* several requests at once */
        pace->votes = 0;
    else if (now - pace->handed <= WAKING_US + (gint64)(pace->len / BYTES_PER_US))
        pace->votes = MIN(pace->votes + 1, MAX_VOTES);
    else
        pace->votes -= MIN(pace->votes, 1);
    pace->asked = now;
    pace->len = len;
}

void pace_handed(Pace *pace, gint64 now)
{
    pace->handed = now;
}

bool pace_is_quick(const Pace *pace)
{
    return pace->votes >= QUICK;
}
