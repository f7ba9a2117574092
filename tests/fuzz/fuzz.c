/* fuzz.c - see fuzz.h. */
#include "fuzz.h"
#include "qcow.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Sizes that no image can have must come back as NULL, as they do from the C library. The
 * quarantine of freed memory is kept small, so that a limit on the process's memory is nearly
 * one on the engine's.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:quarantine_size_mb=8:malloc_context_size=8";
}

void fuzz_fail(const char *file, int line, const char *promise, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: %s:", file, line, promise);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static GLogWriterOutput refuse_to_log(GLogLevelFlags level, const GLogField *fields, gsize n,
                                      gpointer data)
{
    (void)data;
    for (gsize i = 0; i < n; i++)
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            fprintf(stderr, "logged at level %d: %s\n", (int)level, (const char *)fields[i].value);
    abort();
}

__attribute__((constructor)) static void install(void)
{
    g_log_set_writer_func(refuse_to_log, NULL, NULL);
}

void fuzz_check_error(int result, const GError *error)
{
    fuzz_require(result <= 0, "%d", result);
    fuzz_require((result < 0) == (error != NULL), "%d", result);
    if (!error)
        return;
    fuzz_require(error->domain == QC_ERROR && error->code == -result, "%d, but %s", result,
                 error->message);
    fuzz_require(*error->message, "no sentence");
}

uint64_t fuzz_take(FuzzBytes *bytes, unsigned n)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n && bytes->left > 0; i++) {
        value |= (uint64_t)*bytes->at++ << (8 * i);
        bytes->left--;
    }
    return value;
}
