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

enum {
    SCRIPT_HISTORY = 6, /* steps: two snapshots; the last writes at 70,000 */
};

/* A new image of size bytes. */
MemFile *script_image(const Kind *kind, uint64_t size);
/* The same after the first steps of a history. */
MemFile *script_used_image(const Kind *kind, uint64_t size, unsigned n_steps);

/* One step of a history: a command, or a write of the guest. */
typedef enum StepKind {
    STEP_TAKE,
    STEP_REVERT,
    STEP_DELETE,
    STEP_RENAME,
    STEP_WRITE,
    STEP_REPAIR,
} StepKind;

enum {
    N_STEP_KINDS = STEP_REPAIR + 1,
};

typedef struct Step {
    StepKind kind;
    const char *name;     /* TAKE, RENAME */
    unsigned snapshot;    /* REVERT, DELETE, RENAME */
    uint64_t offset, len; /* WRITE */
    uint8_t seed;
} Step;

/* The i-th byte that a WRITE writes. */
static inline uint8_t step_byte(const Step *step, uint64_t i)
{
    return (uint8_t)(step->seed + i / 512);
}

/* The virtual size of an image. */
uint64_t script_size(const MemFile *file);

/* Open the image anew and run one command on it. The command's result. */
int script_run(MemFile *file, const Step *command, bool *ret_unknown);
/* The same for any file. gate: for its backing file, or NULL. */
int script_run_on(QcFile *file, QcGate *gate, const Step *command, bool *ret_unknown);
/* The same on an image that was opened for it. */
int script_run_opened(QcImage *image, QcGate *gate, QcCache *cache, const Step *command, QcRun *run,
                      GError **error);

#endif
