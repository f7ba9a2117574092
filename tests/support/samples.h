/*
 * samples.h - images of every kind that a command may meet, each with a history of writes and
 * snapshots; and the commands to try on them.
 */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include "script.h"

/* What is special about an image. */
typedef enum SampleTrait {
    TRAIT_COMPRESSED = 1 << 0, /* clusters that share host clusters */
    TRAIT_SUBCLUSTERS = 1 << 1,
    TRAIT_VM_STATE = 1 << 2, /* in a snapshot, and after a loadvm in the disk */
    TRAIT_RESIZED = 1 << 3,  /* the oldest snapshot is of a smaller disk */
    TRAIT_BACKING = 1 << 4,
    TRAIT_BITMAP = 1 << 5,
    TRAIT_LAZY = 1 << 6,
    TRAIT_DIRTY = 1 << 7, /* not closed cleanly: wrong refcounts */
    TRAIT_LEAKS = 1 << 8,
    TRAIT_EMPTY = 1 << 9,       /* no snapshots */
    TRAIT_TABLE_FULL = 1 << 10, /* the refcount table has to grow */
    TRAIT_SLOT_LAST = 1 << 11,  /* one more snapshot fills its table's cluster to the last byte */
    TRAIT_SLOT_NONE = 1 << 12,  /* one more snapshot makes its table longer by a cluster */
    TRAIT_THOUSAND = 1 << 13,   /* snapshots */
    TRAIT_LIMIT_LAST = 1 << 14, /* one less than the format allows */
    TRAIT_LIMIT_NONE = 1 << 15, /* as many as the format allows */
} SampleTrait;

typedef struct Sample {
    Kind kind;
    unsigned traits;
} Sample;

extern const Sample samples[];
extern const size_t n_samples;

/*
 * Make the image. gate: a store that has a file "base.raw", samples_make_base(); NULL when the
 * sample has no TRAIT_BACKING.
 */
MemFile *sample_make(const Sample *sample, QcGate *gate);

/* The same with something to mend, if the i-th command is a repair: else that writes nothing. */
MemFile *sample_make_for(const Sample *sample, QcGate *gate, unsigned i);

/* Write that file into a directory, and open the gate on it. */
QcGate *samples_make_base(const char *dir);

/* The commands: how many, the i-th, and what it has to return for this sample. */
unsigned sample_n_commands(const Sample *sample);
Step sample_command(const Sample *sample, unsigned i);
int sample_expected(const Sample *sample, const Step *command);
const char *sample_command_name(const Sample *sample, unsigned i);

/*
 * How far it is from one command to the next that a short test tries: 1, and 3 for big samples.
 * Where a sanitizer makes it slower still (SANITIZED is set), the test tries only the first command
 * of big samples and of those with clusters of 64 KiB.
 */
unsigned sample_step(const Sample *sample);

/* Whether one state of it costs much more to look at than usual. */
bool sample_is_big(const Sample *sample);

#endif
