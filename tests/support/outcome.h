/*
 * outcome.h - what an image is, as far as anybody can tell: its first sector, what the judge says
 * of it, and what its disks hold.
 */
#ifndef TESTS_OUTCOME_H
#define TESTS_OUTCOME_H

#include "memfile.h"

enum {
    OUTCOME_SECTOR = 512,
};

typedef struct Outcome {
    uint8_t sector[OUTCOME_SECTOR];
    char *verdict, *digest; /* of judge.h */
    bool leaky;             /* the verdict is of leaks, at least among others */
} Outcome;

Outcome outcome_of_file(MemFile *file);
void outcome_clear(Outcome *outcome);

/* The same verdict and the same disks; the first sectors may differ. */
bool outcome_same(const Outcome *a, const Outcome *b);

#endif
