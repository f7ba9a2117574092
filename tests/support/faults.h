/*
 * faults.h - a command on a sample, with an error at its calls of the file, one after the other.
 *
 * Success must be the image as after, failure the image as before, with the errno of the fault;
 * and only where the engine says that nobody knows, either. The next command then works.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include "samples.h"

typedef struct FaultCounts {
    uint64_t faults, successes, failures, unknown;
    uint64_t left_out; /* calls that were not chosen */
} FaultCounts;

/*
 * Something else than the file that can fail: begin(n) makes the n-th of it fail (none with -1;
 * all later ones too when from_then_on), end() makes it work again and returns how many there were.
 */
typedef struct FaultSource {
    void (*begin)(int64_t n, bool from_then_on);
    int64_t (*end)(void);
} FaultSource;

typedef struct FaultPlan {
    QcGate *gate;
    int error; /* negative errno or MEM_SHORT; of a source: what the command returns then */
    bool from_then_on;
    const FaultSource *source; /* NULL: the file */
    unsigned most;             /* calls that are tried, see points.h; 0: all */
    uint32_t seed;
} FaultPlan;

/* NULL, or what is wrong (g_free). */
char *faults_try(const Sample *sample, unsigned command, const FaultPlan *plan,
                 FaultCounts *counts);

#endif
