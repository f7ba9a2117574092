/*
 * scene.h - where tests/fuzz/requests.c plays: a store of three images, and processes that ask.
 */
#ifndef TESTS_SCENE_H
#define TESTS_SCENE_H

#include "kernel.h"

enum {
    SCENE_DISK_BYTES = 40 * 1024, /* of each disk with snapshots; those are "one" and "two" */
};

/* Make the store as it is at the beginning: a.qcow2, sub/b.qcow2, c.raw. Returns its path. */
const char *scene_begin(void);
/* Remove one of the images, or put any of them in its place. */
void scene_change(unsigned how);
/*
 * root or nobody; a process that is not known, one that lives, one that is to end by a signal, one
 * that has ended; or this one.
 */
Asker scene_asker(unsigned who);

#endif
