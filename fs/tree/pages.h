/*
 * pages.h - the kernel's pages of one node: which of them it may keep, and whether it reads the
 * node's file by itself instead.
 */
#ifndef SNAPTREE_PAGES_H
#define SNAPTREE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

/* Of one node. Thread-safe. */
typedef struct Pages Pages;

Pages *pages_new(void);
void pages_free(Pages *pages); /* accepts NULL */

/* How the kernel is to read an open file. */
typedef enum PagesUse {
    PAGES_DIRECT, /* not through the page cache; no answer of pages_open() */
    PAGES_NEW,    /* use it, but drop the pages that are there */
    PAGES_KEEP,   /* the pages that are there are right */
    PAGES_PASSED, /* by itself, from the node's file (passthrough.h) */
    PAGES_STALE,  /* something else is open by this node: look the name up anew */
} PagesUse;

/* What a file that is opened has in it. */
typedef struct PagesContent {
    const char *what;     /* which disk, snapshot or layer of which files */
    const char *identity; /* equal only when no byte differs; NULL: equal to no other */
    uint64_t size;
    bool is_node_file; /* it is the raw file that the node is of (NodeFile), to its last byte */
} PagesContent;

/*
 * A file with that content is opened. Unless the answer is STALE, pages_close() with it has to
 * follow.
 *
 * passed: the kernel's number of the file, 0: none. It becomes the node's where the kernel can read
 * the file by itself. If *passed is changed, the caller still owns the number that it came with;
 * otherwise, after PASSED, the number is the node's.
 */
PagesUse pages_open(Pages *pages, const PagesContent *content, int *passed);
/* Returns the number that the node does not need any more, to be given back; 0: none. */
int pages_close(Pages *pages, PagesUse use);

/* Nothing is open by the node, so a number of its file is of use. */
bool pages_are_unused(Pages *pages);
/* The size of what the pages show; false: nothing is open with them. Accepts NULL: false. */
bool pages_size(Pages *pages, uint64_t *ret);
/*
 * Mark the node as left behind when open pages show another size. True: the node's name needs
 * another node. NULL: false.
 */
bool pages_leave_if_resized(Pages *pages, uint64_t size);
/* Mark the node as left behind when open pages show something else than this. Accepts NULL. */
void pages_leave_if_other(Pages *pages, const PagesContent *content);

/* A read came through the cache, so the kernel has dropped what it was told to drop. */
void pages_settled(Pages *pages);
/* The bytes turned out to be others than the identity said: do not keep the pages. */
void pages_spoil(Pages *pages);

#endif
