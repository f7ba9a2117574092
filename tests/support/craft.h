/*
 * craft.h - making images in memory what other programs leave behind, and the engine does not
 * make by itself. Each function leaves a sound image: refcounts and COPIED flags are set anew,
 * unless it says otherwise.
 */
#ifndef TESTS_CRAFT_H
#define TESTS_CRAFT_H

#include "memfile.h"

/* Change the virtual size, within what the L1 table reaches. */
void craft_resize(MemFile *file, uint64_t size);

/* Compress n clusters of the active disk from guest cluster first on, close behind each other. */
void craft_compress(MemFile *file, uint64_t first, unsigned n);

/* Let parts of n clusters of the active disk be zeros or unallocated (extended L2). */
void craft_subclusters(MemFile *file, uint64_t first, unsigned n);

/* Let the last entry of the active L1 table, an empty one, have the L2 table of the first. */
void craft_table_twice(MemFile *file);

/* Give a snapshot a VM state of n clusters; with active, let the disk have it too (loadvm). */
void craft_vm_state(MemFile *file, unsigned snapshot, unsigned n, bool active);

/* A persistent bitmap of the disk. */
void craft_bitmap(MemFile *file);

/*
 * n snapshots instead of those that there are: all like the first, called NAME_LEN bytes. Each
 * with an L1 table of its own, or all with one.
 */
void craft_snapshots(MemFile *file, unsigned n, unsigned name_len, bool own_tables);

/* n clusters that are counted and not referred to; and one that is counted once too often. */
void craft_leaks(MemFile *file, unsigned n);
/* One count too many, and nothing else changed: what a repair mends. */
void craft_leak(MemFile *file);

/* The marks of lazy refcounts; with dirty, wrong counts too, as a killed QEMU leaves them. */
void craft_lazy(MemFile *file, bool dirty);

#endif
