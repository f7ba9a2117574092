/*
 * world.h - what a kernel knows of a mount: the nodes and handles that it was given, and the
 * requests that are under way. What an answer says is noted, and must agree with what was said
 * before.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include "fuzz.h"
#include "kernel.h"

enum {
    WORLD_NODES = 64,
    WORLD_HANDLES = 24,
    WORLD_PENDING = 8,
};

typedef struct Known {
    uint64_t ino, lookups; /* 0 look-ups: this place is free */
    unsigned used;         /* handles, and requests under way */
    bool is_dir, of_snapshots;
} Known;

typedef struct Open {
    uint64_t fh;
    Known *node; /* NULL: this place is free */
    unsigned used;
    bool is_snapshot;
    GByteArray *seen; /* for each byte: how it read, above 255: not yet; two bytes each */
} Open;

typedef struct Pending {
    Call *call; /* NULL: this place is free */
    Known *node;
    Open *open;
    uint64_t offset;
} Pending;

typedef struct World {
    FuzzBytes in;
    Kernel *kernel;
    Asker asker;
    bool concurrent;
    uint64_t last; /* unique */
    Known nodes[WORLD_NODES];
    Open handles[WORLD_HANDLES];
    Pending pending[WORLD_PENDING];
} World;

typedef struct Request {
    uint32_t opcode;
    Known *node;
    Open *open;
    const void *args;
    size_t len, room;
    uint64_t offset; /* READ: where; LOOKUP: whether the names are of snapshots */
} Request;

/* A node that the input chooses, of those that fit (NULL: all); or NULL. */
Known *world_node(World *world, bool (*fits)(const Known *));
/* The same, an open file or directory. */
Open *world_handle(World *world, bool dir);

/* Send a request. Whether its answer is waited for at once is the input's choice. */
void world_call(World *world, const Request *request);
/* Wait for all that is under way, and note what came of it. */
void world_settle(World *world);

/* Tell that so many look-ups are forgotten; that a handle is closed, which nothing uses. */
void world_forget(World *world, Known *known, uint64_t n);
void world_release(World *world, Open *open);

#endif
