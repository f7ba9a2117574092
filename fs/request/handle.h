/* handle.h - an open file or directory, as the kernel's file handle. */
#ifndef SNAPTREE_HANDLE_H
#define SNAPTREE_HANDLE_H

#include "control.h"
#include "reader.h"

/* Exactly one of the four is set. */
typedef struct Handle {
    Reader *reader;   /* disk, snapshot, layer */
    Control *control; /* control */
    GBytes *text;     /* info.json, error */
    Listing *listing; /* a directory */
} Handle;

/* Open the file that the node stands for; creds are the caller's. */
int handle_open(Fs *fs, Node *node, const Creds *creds, Handle **ret);
int handle_open_dir(Fs *fs, const Node *node, const Creds *creds, Handle **ret);
void handle_free(Handle *handle); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handle, handle_free)

#endif
