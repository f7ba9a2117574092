/* node.h - what the kernel knows: inode numbers and the names behind them. */
#ifndef SNAPTREE_NODE_H
#define SNAPTREE_NODE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum NodeKind {
    NODE_DIR = 1, /* the store or a sub-directory of it */
    NODE_IMAGE,   /* the directory of an image */
    NODE_CONTROL, /* of the store, or of an image */
    NODE_INFO,
    NODE_DISK,
    NODE_ERROR,
    NODE_SNAPSHOTS, /* the directory */
    NODE_LAYERS,    /* the directory */
    NODE_SNAPSHOT,
    NODE_LAYER,
} NodeKind;

typedef struct Node Node;
typedef struct Nodes Nodes;

#define NODE_ROOT 1u /* inode number of the mount's root */

/* A file of the store. A raw layer is one file and nothing else, so its node is of that file:
 * another one in its place is another node. Zeros: a node of whatever its name leads to. */
typedef struct NodeFile {
    uint64_t dev, ino;
} NodeFile;

Nodes *nodes_new(void);
void nodes_free(Nodes *nodes); /* accepts NULL */

/* The node of an inode number that the kernel has; a new reference, NULL when unknown. */
Node *nodes_get(Nodes *nodes, uint64_t ino);
void node_unref(Nodes *nodes, Node *node); /* accepts NULL */

/*
 * The child of a node, made if there is none; counts one look-up by the kernel, which
 * nodes_forget() takes back. Returns its inode number. While the child is open with pages of a
 * file that had another size, the name gets another one.
 */
uint64_t nodes_lookup(Nodes *nodes, Node *parent, const char *name, NodeKind kind, NodeFile file,
                      uint64_t size);
void nodes_forget(Nodes *nodes, uint64_t ino, uint64_t n_lookups);

/* The inode number that a child has, or would have but for a collision or one still open. */
uint64_t node_child_ino(const Node *parent, const char *name, NodeKind kind, NodeFile file);

uint64_t node_ino(const Node *node);
NodeKind node_kind(const Node *node);
const char *node_name(const Node *node);
NodeFile node_file(const Node *node);
bool node_file_equal(NodeFile a, NodeFile b);

/* Path in the store of the directory or image that the node is, or is part of (g_free). */
char *node_path(const Node *node);
/* The node is the store's own control file, or the store itself. */
bool node_is_of_store(const Node *node);

/* ---- open disks -------------------------------------------------------------------------- */

/* The node is open as a disk of that size, once more; node_close() has to follow. */
void node_open(Nodes *nodes, Node *node, uint64_t size);
void node_close(Nodes *nodes, Node *node);
/* Whether it is open, and the size it had when it was opened last. */
bool node_is_open(Nodes *nodes, const Node *node, uint64_t *ret_size);

/* ---- the kernel's page cache, and what it reads without ---------------------------------- */

/* How the kernel is to read an open file. */
typedef enum NodePages {
    NODE_PAGES_DIRECT, /* not through the page cache; no answer of node_pages_open() */
    NODE_PAGES_NEW,    /* use it, but drop the pages that are there */
    NODE_PAGES_KEEP,   /* the pages that are there are right */
    NODE_PAGES_PASSED, /* by itself, from the node's file (passthrough.h) */
    NODE_PAGES_STALE,  /* something else is open by this node: look the name up anew */
} NodePages;

/* What a file that is opened has in it. */
typedef struct NodeContent {
    const char *what;     /* which disk, snapshot or layer of which files */
    const char *identity; /* equal only when no byte differs; NULL: equal to no other */
    uint64_t size;
} NodeContent;

/*
 * A file is opened: file, if it is a raw one; with that content. Unless the answer is STALE,
 * node_pages_close() with it has to follow.
 *
 * passed: the kernel's number of the file, 0: none. It becomes the node's where it can; the kernel
 * wants the same of all that are open, and passed and other opens of a node never at a time. If
 * *passed is changed, the caller still owns the number he came with; otherwise, after PASSED, it
 * is the node's.
 */
NodePages node_pages_open(Nodes *nodes, Node *node, NodeFile file, const NodeContent *content,
                          int *passed);
/* Returns the number that the node does not need any more, to be given back; 0: none. */
int node_pages_close(Nodes *nodes, Node *node, NodePages how);
/* Whether it is of use to get a number of the file: nobody has the node open. */
bool node_may_pass(Nodes *nodes, const Node *node, NodeFile file);
/* The size of what the pages show, while it is open; false: it is not. */
bool node_pages_size(Nodes *nodes, const Node *node, uint64_t *ret);
/* A read came through the cache, so the kernel has dropped what it was told to drop. */
void node_pages_settled(Nodes *nodes, Node *node);
/* The bytes turned out to be others than the identity said: do not keep the pages. */
void node_pages_spoil(Nodes *nodes, Node *node);

#endif
