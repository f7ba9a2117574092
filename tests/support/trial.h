/*
 * trial.h - a command on a sample, and a judgement of everything that can become of it.
 *
 * A state is right when its first sector is that of one of the outcomes (before, after), and
 * then everything else about it is exactly as in that outcome: what the judge says of it, and
 * what its disks hold.
 */
#ifndef TESTS_TRIAL_H
#define TESTS_TRIAL_H

#include "cuts.h"
#include "samples.h"

typedef struct Trial {
    CutsPlan plan, big_plan;  /* for samples, and for those that are big */
    unsigned overwrite_every; /* the disk of each so-many-th state is overwritten, of big samples 20
                               * times more seldom; 0: of none */
    unsigned save_every;      /* each so-many-th is written to a file in save_dir */
    const char *save_dir;
    QcGate *gate;         /* of samples_make_base() */
    unsigned most_points; /* places where the first of two commands is killed, or fails; 0: all
                           * (points.h) */

    uint64_t commands, faults, states, before, after, overwritten, saved;
    char *failure; /* NULL: none so far */
} Trial;

/* Cut the power everywhere in a command of a sample. True: every state is right. */
bool trial_power_cuts(Trial *trial, const Sample *sample, unsigned command);

/*
 * Kill the process everywhere in command a, let another one run command b on what the kernel
 * has, and cut the power everywhere in that; so much may be younger than what is on disk.
 */
bool trial_kill_and_go_on(Trial *trial, const Sample *sample, unsigned a, unsigned b);

/*
 * The same after command a has failed: each of its writes and syncs fails, alone, with all later
 * syncs, or with all later calls. What is the same as being killed there is left out; and a read
 * that fails leaves what the next write leaves that does.
 */
bool trial_fail_and_go_on(Trial *trial, const Sample *sample, unsigned a, unsigned b);

void trial_clear(Trial *trial);

#endif
