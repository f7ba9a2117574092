/*
 * judge.h - an independent look at an image in memory: are its refcounts and COPIED flags
 * exactly what its tables say, and what does each disk in it read?
 *
 * The judge counts references its own, simple way, cluster by cluster, and shares nothing
 * with the engine but the structs of the format.
 */
#ifndef TESTS_JUDGE_H
#define TESTS_JUDGE_H

#include "memfile.h"

/* NULL when the image is perfectly clean, else what is wrong (g_free). */
char *judge_check(const MemFile *file);

/*
 * A digest of all disks of the image: name, size and contents of the active disk and of each
 * snapshot, as the engine reads them (g_free). NULL when it cannot be read.
 */
char *judge_digest(MemFile *file);

#endif
