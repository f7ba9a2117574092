/*
 * opened.h - a qcow2 image opened with a cache of its own, the chain of it and its backing files,
 * and the view of its disk: what most tests of the engine begin with.
 */
#ifndef TESTS_OPENED_H
#define TESTS_OPENED_H

#include "qcow.h"

typedef struct Opened {
    QcCache *cache;
    QcImage *image;
    QcChain *chain;
    QcView *view; /* the active disk; borrowed from chain */
} Opened;

/*
 * Open the image in file, of which the image keeps a reference. gate: for its backing files, or
 * NULL. The program ends if the file cannot be opened as an image; what is wrong with backing files
 * is in the chain.
 */
Opened opened_new(QcFile *file, QcGate *gate);
void opened_clear(Opened *opened); /* leaves zeros, and accepts them */
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Opened, opened_clear)

#endif
