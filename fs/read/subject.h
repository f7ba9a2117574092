/* subject.h - what an open file shows: the disk as a layer gives it, or a snapshot. */
#ifndef SNAPTREE_SUBJECT_H
#define SNAPTREE_SUBJECT_H

#include "image.h"

typedef struct Subject {
    int layer;           /* 0: the disk; -1: a snapshot */
    QcSnapshot snapshot; /* which; name is not set */
    char *id;            /* of the snapshot; owned */
} Subject;

void subject_clear(Subject *subject);
bool subject_is_snapshot(const Subject *subject);
/* The layer in whose file it lies. */
unsigned subject_top_layer(const Subject *subject);

/* Note what a node's name stands for in this image. Start with zeros. -ENOENT, -ENOMEM. */
int subject_choose(Subject *subject, Image *image, const Node *node);

/*
 * Whether the caller may read every file of the image that its bytes rest on, and reach each where
 * it lies in the store: 0 or -EACCES.
 */
int subject_check_access(const Subject *subject, const Image *image, QcGate *gate,
                         const Creds *creds);

/* The view of it in an image, which may be another state of the same; a new reference. -EIO: it is
 * not there. */
int subject_view(const Subject *subject, const Image *image, QcView **ret);

/* A text of it and the files that its bytes rest on, whatever state they are in (g_free). */
char *subject_what(const Subject *subject, const Image *image);
/* A text that is equal only when no byte differs (g_free); NULL when that is not sure. */
char *subject_identity(const Subject *subject, const Image *image, QcGate *gate);

/* What identifies a snapshot among the parts of its image, see claims.h (g_free). */
char *subject_part_of_snapshot(const QcSnapshot *snapshot);

#endif
