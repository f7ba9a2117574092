/*
 * aside.c - see aside.h.
 *
 * A reader that does nothing but wait for answers, and the thread that gives them, never run at the
 * same time: one processor is enough for both, and best, as the memory that the answer is copied to
 * is in its cache, and nobody has to be woken on another one. A thread that reads ahead does run at
 * the same time. When the kernel puts it where they are, all three wait for one another and wander
 * about; so it is not to run there. While it runs elsewhere, the kernel leaves the two together.
 *
 * Where it may run is restricted, not which processor it takes. What others have said of that in
 * the meantime (taskset, a cpuset) holds: the set that is restricted is the one that the kernel
 * has now, unless that is the one this thread has set itself.
 *
 * All state is of one thread. Nothing but speed depends on it: failures are ignored.
 */
#include "aside.h"

#include <sched.h>
#include <stdbool.h>

enum {
    MANY = 8, /* steps in a row that call for a change, before it is made */
};

typedef struct Aside {
    int avoided;      /* a processor, or ASIDE_ANYWHERE */
    unsigned n_calls; /* steps in a row that called for a change */
    cpu_set_t set;    /* what this thread has set last; at first, empty */
    cpu_set_t whole;  /* what it was made from */
} Aside;

static _Thread_local Aside own = {.avoided = ASIDE_ANYWHERE};

/* Whether the thread is where it should not be, or is restricted for no reason. */
static bool calls_for_change(const Aside *aside, int processor)
{
    if (processor == aside->avoided)
        return false;
    return processor == ASIDE_ANYWHERE || aside->avoided == ASIDE_ANYWHERE ||
           sched_getcpu() == processor;
}

static void avoid(Aside *aside, int processor)
{
    cpu_set_t set;

    aside->avoided = processor;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return;
    if (!CPU_EQUAL(&set, &aside->set))
        aside->whole = set;
    set = aside->whole;
    if (processor != ASIDE_ANYWHERE)
        CPU_CLR((size_t)processor, &set);
    if (CPU_COUNT(&set) > 0 && sched_setaffinity(0, sizeof(set), &set) == 0)
        aside->set = set;
}

void aside_stay(int processor)
{
    Aside *aside = &own;

    aside->n_calls = calls_for_change(aside, processor) ? aside->n_calls + 1 : 0;
    if (aside->n_calls < MANY)
        return;
    aside->n_calls = 0;
    avoid(aside, processor);
}
