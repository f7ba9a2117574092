/*
 * script.h - small images in memory, and the commands on them, for tests of the engine.
 */
#ifndef TESTS_SCRIPT_H
#define TESTS_SCRIPT_H

#include "memfile.h"
#include "qcow.h"

/* A kind of image. */
typedef struct Kind {
    const char *name;
    unsigned version, cluster_bits, refcount_bits;
    bool extended_l2;
} Kind;

extern const Kind script_kinds[];
extern const size_t script_n_kinds;

/* A new image of size bytes. */
MemFile *script_image(const Kind *kind, uint64_t size);

/* One step of a history: a command, or a write of the guest. */
typedef enum StepKind {
    STEP_TAKE,
    STEP_REVERT,
    STEP_DELETE,
    STEP_RENAME,
    STEP_WRITE, /* len bytes of value seed at offset */
    STEP_REPAIR,
} StepKind;

typedef struct Step {
    StepKind kind;
    const char *name;     /* TAKE */
    unsigned snapshot;    /* REVERT, DELETE, RENAME */
    uint64_t offset, len; /* WRITE */
    uint8_t seed;
} Step;

/* The virtual size of an image. */
uint64_t script_size(const MemFile *file);

/* Open the image anew and run one command on it. The command's result. */
int script_run(MemFile *file, const Step *command, bool *ret_unknown);
/* The same for any file. gate: for its backing file, or NULL. */
int script_run_on(QcFile *file, QcGate *gate, const Step *command, bool *ret_unknown);

#endif
