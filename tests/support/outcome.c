/* outcome.c - see outcome.h. */
#include "outcome.h"
#include "judge.h"
#include <string.h>

Outcome outcome_of_file(MemFile *file)
{
    Outcome o = {.verdict = judge_check(file), .digest = judge_digest(file)};
    o.leaky = o.verdict && judge_leaks(file) > 0;
    memcpy(o.sector, file->data->data, OUTCOME_SECTOR);
    return o;
}

void outcome_clear(Outcome *o)
{
    g_clear_pointer(&o->verdict, g_free);
    g_clear_pointer(&o->digest, g_free);
}

bool outcome_same(const Outcome *a, const Outcome *b)
{
    return g_strcmp0(a->verdict, b->verdict) == 0 && g_strcmp0(a->digest, b->digest) == 0;
}
