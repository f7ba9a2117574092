/*
 * handle.h - an open file or directory, as the kernel's file handle.
 *
 * What is listed of a directory is replaced when it is read from its start again, as rewinddir(3)
 * asks; who is reading the listing from before keeps it.
 */
#ifndef SNAPTREE_HANDLE_H
#define SNAPTREE_HANDLE_H

#include "control.h"
#include "reader.h"

/* Exactly one of reader, control, text and listing is set. */
typedef struct Handle {
    Reader *reader;   /* disk, snapshot, layer */
    Control *control; /* control */
    GBytes *text;     /* info.json, error */
    Fs *fs;           /* of node */
    Node *node;       /* open as a control or a text; a reader opens its own */
    GMutex lock;
    Listing *listing; /* a directory; lock */
    bool listed;      /* the listing was read; lock */
    Creds *opener;    /* of a directory */
} Handle;

/* Open the file that the node stands for; creds are the caller's. */
int handle_open(Fs *fs, Node *node, const Creds *creds, Handle **ret);
int handle_open_dir(Fs *fs, const Node *node, const Creds *creds, Handle **ret);
/* The listing to read at that place, a new reference. Thread-safe. The node is the handle's. */
int handle_listing(Fs *fs, const Node *node, Handle *handle, uint64_t place, Listing **ret);
void handle_free(Handle *handle); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handle, handle_free)

#endif
