/* options.h - the command line. */
#ifndef SNAPTREE_OPTIONS_H
#define SNAPTREE_OPTIONS_H

#include "qcow.h"

typedef struct Options {
    char *store, *mountpoint;
    bool foreground, debug, read_only, clone_fd, io_uring, sandbox;
    char *help;   /* print this and leave */
    bool version; /* print it and leave */
    QcBackingPolicy backing;
    unsigned cache_mib;
    unsigned max_threads; /* 0: decide by the machine */
    unsigned max_read;    /* bytes; 0: as the kernel likes */
    GPtrArray *fuse;      /* mount options for libfuse, "key" or "key=value" */
    bool has_fsname, has_subtype;
} Options;

/* Read the command line. A GError's message names the argument that is wrong. */
bool options_parse(Options *options, int argc, char **argv, GError **error);
void options_clear(Options *options);

#endif
