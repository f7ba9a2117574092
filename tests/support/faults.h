/*
 * faults.h - a command on a sample, with an error at each of its calls of the file in turn.
 *
 * Success must be the image as after, failure the image as before, with the errno of the fault;
 * and only where the engine says that nobody knows, either. The next command then works.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include "samples.h"

typedef struct FaultCounts {
    uint64_t faults, successes, failures, unknown;
} FaultCounts;

/* Let error (negative errno or MEM_SHORT) happen at every call. NULL, or what is wrong (g_free). */
char *faults_try(const Sample *sample, QcGate *gate, unsigned command, int error, bool from_then_on,
                 FaultCounts *counts);

/*
 * The same for something else that can fail: begin(n) makes the n-th of it fail (all later ones
 * too when from_then_on), end() makes it work again and returns how many there were.
 */
typedef struct FaultSource {
    int error; /* what a command returns then */
    void (*begin)(int64_t n, bool from_then_on);
    int64_t (*end)(void);
} FaultSource;
char *faults_try_source(const Sample *sample, QcGate *gate, unsigned command,
                        const FaultSource *source, bool from_then_on, FaultCounts *counts);

#endif
