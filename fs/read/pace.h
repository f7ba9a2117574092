/* pace.h - whether a reader comes back at once for more. */
#ifndef SNAPTREE_PACE_H
#define SNAPTREE_PACE_H

#include <glib.h>
#include <stdbool.h>

/* Of one reader. Zeros: nothing is known of it. Times are monotonic, in microseconds. */
typedef struct Pace {
    gint64 asked;  /* when it asked for something last, */
    size_t len;    /* how many bytes, */
    gint64 handed; /* and when that was handed out; before `asked`: it was not yet */
    unsigned votes;
} Pace;

void pace_asked(Pace *pace, gint64 now, size_t len);
void pace_handed(Pace *pace, gint64 now);

/*
 * Whether it has, for a while, asked for more as soon as it had the answer, and never before: it
 * does nothing else but read.
 */
bool pace_is_quick(const Pace *pace);

#endif
