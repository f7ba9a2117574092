/* node.h - what the kernel knows: inode numbers and the names behind them. */
#ifndef SNAPTREE_NODE_H
#define SNAPTREE_NODE_H

#include "pages.h"

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

/*
 * A file of the store. A raw layer is one file and nothing else, so its node is of that file:
 * another one in its place is another node. Zeros: the node is of whatever its name leads to.
 */
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
 * nodes_forget() takes back. Returns its inode number. While the child is open with pages of
 * another size, the name gets another child.
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

/* ---- open files -------------------------------------------------------------------------- */

/* The node is open as a file of that size, once more; node_close() has to follow. */
void node_open(Nodes *nodes, Node *node, uint64_t size);
void node_close(Nodes *nodes, Node *node);
/* Whether it is open, and the size it had when it was opened last. */
bool node_is_open(Nodes *nodes, const Node *node, uint64_t *ret_size);

/* ---- the kernel's page cache ------------------------------------------------------------- */

/* What it has of the node; made at the first call. Borrowed for as long as the node is held. */
Pages *node_pages(Nodes *nodes, Node *node);
/* As pages_size(), also of a node of which that was never asked. */
bool node_pages_size(Nodes *nodes, const Node *node, uint64_t *ret);
/*
 * The answer to an open of the node is PAGES_STALE. Then the next look-up of its name has to lead
 * to a node that can be opened: the kernel does not try a third time. So all nodes of that name
 * whose open pages show something else than this are left behind.
 */
void node_leave_others(Nodes *nodes, const Node *node, const PagesContent *content);

#endif
