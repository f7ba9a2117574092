/*
 * cuts.h - every state that a power cut can leave of a recorded sequence of writes and syncs.
 *
 * The power may go after any operation. What was synced by then is there; of the writes since,
 * any may be there and any may not, in any combination; and of each, any of its sectors.
 */
#ifndef TESTS_CUTS_H
#define TESTS_CUTS_H

#include "memfile.h"

typedef struct CutsPlan {
    unsigned every;   /* so many unsynced writes at most: all combinations of them ... */
    unsigned samples; /* ... above, so many chosen at random for each operation */
    unsigned tears;   /* how many places a write is torn at, at most: all its sectors if it can */
    unsigned mixed;   /* states for each operation in which each write has a fate of its own */
} CutsPlan;

/* Returns false to stop. state is the caller's to look at, not to change. */
typedef bool (*CutsVisit)(void *data, MemFile *state);

/*
 * Visit the states that the log (of MemOp) could leave of a file when the power goes after first of
 * its operations or later. True when all were visited.
 */
bool cuts_visit(const MemFile *before, const GArray *log, guint first, const CutsPlan *plan,
                CutsVisit visit, void *data);

#endif
