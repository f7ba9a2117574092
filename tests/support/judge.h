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

/* NULL when the image is perfectly clean, else what is wrong, leaks too (g_free). */
char *judge_check(const MemFile *file);

/* How often each cluster of the file is referred to (g_free); ret_n: how many it has. */
uint32_t *judge_references(const MemFile *file, uint64_t *ret_n);

/* Clusters that are counted more often than they are referred to. */
uint64_t judge_leaks(const MemFile *file);

/*
 * A digest of all disks of the image: name, size and contents of the active disk and of each
 * snapshot, as the engine reads them, and of the VM states (g_free). NULL when it cannot be
 * read.
 */
char *judge_digest(MemFile *file);

/* The line of a digest that says what a disk of these bytes is. */
void judge_digest_line(GString *digest, const char *name, const uint8_t *disk, uint64_t size);

/*
 * Overwrite the whole active disk, as a guest might: NULL when the snapshots are what they were
 * (and the image clean, if it was), else what is wrong (g_free).
 */
char *judge_overwriting(const MemFile *original);

#endif
