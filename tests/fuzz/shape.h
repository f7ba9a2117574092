/*
 * shape.h - the structure of an image, for fuzzing: where its tables are, whether what they
 * say adds up, and mutations that change it where it matters.
 *
 * Shares nothing with the engine but the structs of the format. It finds its way in any bytes:
 * what does not lie inside the file is not followed.
 */
#ifndef TESTS_SHAPE_H
#define TESTS_SHAPE_H

#include "memfile.h"

/*
 * A mutant of the image in data, of at most max_size bytes; returns its size. Most mutants
 * have a header that the engine accepts, and many have refcounts that fit the tables.
 */
size_t shape_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Bytes before an image that say what is to be done with it. */
#define SHAPE_PREFIX 16u

/* The same of these bytes and an image; of four mutants, in_prefix have other such bytes only. */
size_t shape_mutate_with_prefix(uint8_t *data, size_t size, size_t max_size, unsigned seed,
                                unsigned in_prefix);

/* Each implies the ones before it. */
typedef enum Soundness {
    SHAPE_UNSOUND, /* something is referred to more often than it is counted */
    SHAPE_SOUND,   /* nothing that is referred to can be taken for free */
    SHAPE_COUNTED, /* refcounts are exact */
    SHAPE_CLEAN,   /* and so are the COPIED flags */
} Soundness;

/*
 * Images with bitmaps or an encryption header, and those in which a cluster is both a table and
 * data, are at most SHAPE_SOUND. why receives what keeps
 * the image from being better, in words.
 */
Soundness shape_audit(const MemFile *file, char why[static 128]);

#endif
