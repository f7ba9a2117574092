/* tree.h - what exists in the tree, with which attributes. Looks anew at every call. */
#ifndef SNAPTREE_TREE_H
#define SNAPTREE_TREE_H

#include "fs.h"

/* Look up a name in a directory node. Sets all of its attributes but attr->st_ino. -ENOENT. */
int tree_lookup(Fs *fs, const Node *parent, const char *name, NodeKind *ret_kind,
                NodeFile *ret_file, struct stat *attr);

/*
 * The attributes of a node as it is now. -ENOENT when it is gone; -ESTALE: its name leads to
 * another file, and so to another node.
 */
int tree_attr(Fs *fs, const Node *node, struct stat *attr);

/*
 * The entries of a directory node, without . and .. -EACCES: the caller may not read what the
 * node's name leads to.
 */
int tree_list(Fs *fs, const Node *node, const Creds *creds, Listing **ret);

#endif
