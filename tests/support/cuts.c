/* cuts.c - see cuts.h. */
#include "cuts.h"
#include <string.h>

enum {
    SECTOR = 512, /* what a disk writes as a whole */
};

/* What becomes of a write that was not synced. */
typedef enum Fate {
    FATE_MISSING,
    FATE_WHOLE,
    FATE_TORN,    /* only its first sectors are there */
    FATE_PATCHY,  /* any of its sectors */
    FATE_ZEROED,  /* the file was extended, but nothing written */
    FATE_GARBAGE, /* the place was written, but with something else */
    N_FATES,
} Fate;

typedef struct Cuts {
    const GArray *log;
    const CutsPlan *plan;
    MemFile *base;  /* with all operations before start done */
    MemFile *state; /* the one that is visited */
    guint start;
    GArray *pending; /* guint: the operations from start on that are not durable */
    GRand *rand;
    CutsVisit visit;
    void *data;
} Cuts;

static const MemOp *op_at(const Cuts *c, guint i)
{
    return &g_array_index(c->log, MemOp, i);
}

static bool changes(const MemOp *op)
{
    return op->kind == MEM_WRITE || op->kind == MEM_TRUNCATE;
}

/* Whether operation i is on disk for sure when the power goes after end operations. */
static bool is_durable(const Cuts *c, guint i, guint end)
{
    while (i < end && changes(op_at(c, i)))
        i++;
    return i < end && op_at(c, i)->kind == MEM_SYNC;
}

/* Let the base hold what is durable at end, and list what is not. */
static void advance(Cuts *c, guint end)
{
    g_array_set_size(c->pending, 0);
    for (guint i = c->start; i < end; i++) {
        if (!changes(op_at(c, i)))
            continue;
        if (!is_durable(c, i, end)) {
            g_array_append_val(c->pending, i);
        } else if (c->pending->len == 0) {
            mem_file_apply(c->base, op_at(c, i), op_at(c, i)->size);
            c->start = i + 1;
        }
    }
}

/* ---- one write -------------------------------------------------------------------------- */

/* A write with other bytes, as far as the choice of sectors goes. */
static void apply_altered(Cuts *c, const MemOp *op, Fate fate)
{
    g_autofree uint8_t *bytes = g_malloc(op->size);
    MemOp altered = {.kind = MEM_WRITE, .offset = op->offset, .size = op->size, .bytes = bytes};
    const GByteArray *now = c->state->data;
    memset(bytes, 0, op->size);
    if (fate == FATE_PATCHY && op->offset < now->len)
        memcpy(bytes, now->data + op->offset, MIN(op->size, now->len - op->offset));
    for (uint64_t at = 0; at < op->size; at += SECTOR) {
        size_t len = (size_t)MIN(SECTOR, op->size - at);
        if (fate == FATE_PATCHY && g_rand_boolean(c->rand))
            memcpy(bytes + at, op->bytes + at, len);
        if (fate == FATE_GARBAGE)
            memset(bytes + at, g_rand_int_range(c->rand, 0, 256), len);
    }
    mem_file_apply(c->state, &altered, altered.size);
}

static void apply(Cuts *c, const MemOp *op, Fate fate, uint64_t bytes)
{
    /* A sector is written as a whole or not at all: the first one, where the header is. */
    bool altered = fate >= FATE_PATCHY && op->kind == MEM_WRITE && op->offset > 0;
    if (altered)
        apply_altered(c, op, fate);
    else if (fate == FATE_TORN)
        mem_file_apply(c->state, op, op->kind == MEM_WRITE ? bytes : op->size);
    else if (fate != FATE_MISSING)
        mem_file_apply(c->state, op, op->size);
}

static uint64_t random_tear(Cuts *c, const MemOp *op)
{
    return (uint64_t)g_rand_int_range(c->rand, 0, (gint32)(op->size / SECTOR) + 1) * SECTOR;
}

/* ---- one state -------------------------------------------------------------------------- */

typedef struct Choice {
    uint64_t mask; /* bit k: pending operation k is there; with mixed, each has a random fate */
    bool mixed;
    guint torn;    /* this operation of the log ... */
    uint64_t tear; /* ... has only so many bytes */
} Choice;

static bool visit(Cuts *c, guint end, const Choice *choice)
{
    guint k = 0;
    mem_file_assign(c->state, c->base);
    for (guint i = c->start; i < end; i++) {
        const MemOp *op = op_at(c, i);
        if (!changes(op))
            continue;
        Fate fate = FATE_WHOLE;
        uint64_t tear = choice->tear;
        if (k < c->pending->len && g_array_index(c->pending, guint, k) == i) {
            fate = choice->mask >> MIN(k, 63) & 1 ? FATE_WHOLE : FATE_MISSING;
            if (choice->mixed) {
                fate = (Fate)g_rand_int_range(c->rand, 0, N_FATES);
                tear = random_tear(c, op);
            } else if (i == choice->torn) {
                fate = FATE_TORN;
            }
            k++;
        }
        apply(c, op, fate, tear);
    }
    return c->visit(c->data, c->state);
}

/* ---- all states after end operations ---------------------------------------------------- */

/* The last operation is there: without it, the states are those of one operation earlier. */
static bool visit_combinations(Cuts *c, guint end)
{
    unsigned n = c->pending->len;
    bool all = n <= c->plan->every;
    uint64_t last = UINT64_C(1) << MIN(n - 1, 63), times = all ? last : c->plan->samples;
    bool go_on = visit(c, end, &(Choice){.mask = UINT64_MAX, .torn = G_MAXUINT});
    for (uint64_t i = 0; i < times && go_on; i++) {
        uint64_t mask = all ? i : (uint64_t)g_rand_int(c->rand) << 32 | g_rand_int(c->rand);
        if (!all || i != last - 1) /* that was the first */
            go_on = visit(c, end, &(Choice){.mask = mask | last, .torn = G_MAXUINT});
    }
    return go_on;
}

/* The last operation torn, with all the others there, and with none. */
static bool visit_tears(Cuts *c, guint end)
{
    const MemOp *op = op_at(c, end - 1);
    uint64_t sectors = op->kind == MEM_WRITE ? op->size / SECTOR : 0;
    uint64_t places = sectors > 0 ? MIN(sectors - 1, c->plan->tears) : 0;
    bool go_on = true;
    for (uint64_t i = 0; i < places && go_on; i++) {
        uint64_t at = places == sectors - 1 ? (i + 1) * SECTOR : random_tear(c, op);
        go_on = visit(c, end, &(Choice){.mask = UINT64_MAX, .torn = end - 1, .tear = at});
        if (go_on && c->pending->len > 1)
            go_on = visit(c, end, &(Choice){.torn = end - 1, .tear = at});
    }
    return go_on;
}

static bool visit_end(Cuts *c, guint end)
{
    bool go_on = true;
    advance(c, end);
    if (end == 0 || !changes(op_at(c, end - 1)))
        return visit(c, end, &(Choice){.mask = UINT64_MAX, .torn = G_MAXUINT});
    go_on = visit_combinations(c, end) && visit_tears(c, end);
    for (unsigned i = 0; i < c->plan->mixed && go_on; i++)
        go_on = visit(c, end, &(Choice){.mixed = true});
    return go_on;
}

bool cuts_visit(const MemFile *before, const GArray *log, guint first, const CutsPlan *plan,
                CutsVisit func, void *data)
{
    Cuts c = {.log = log,
              .plan = plan,
              .base = mem_file_copy(before),
              .state = mem_file_copy(before),
              .pending = g_array_new(FALSE, FALSE, sizeof(guint)),
              .rand = g_rand_new_with_seed(7),
              .visit = func,
              .data = data};
    bool go_on = true;
    for (guint end = first; end <= log->len && go_on; end++)
        go_on = visit_end(&c, end);
    qc_file_unref(mem_file(c.base));
    qc_file_unref(mem_file(c.state));
    g_array_unref(c.pending);
    g_rand_free(c.rand);
    return go_on;
}
