/* fuzz.c - see fuzz.h. */
#include "fuzz.h"
#include "qcow.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MAX_MS = 1000,         /* of the processor, for one input */
    MAX_BYTES = 256 << 20, /* in use at one moment */
};

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

/* ---- measuring --------------------------------------------------------------------------- */

/* Of sanitizers; others do not have them. */
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *))
    __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *) __attribute__((weak));

/* Bytes in use since the input began, and the most there were. May be below 0: caches shrink. */
static _Atomic int64_t in_use, most;
static int64_t most_of_all, longest_ms; /* of all inputs */

static void note_malloc(const volatile void *block, size_t size)
{
    (void)block;
    in_use += (int64_t)size;
    if (in_use > most)
        most = in_use;
}

static void note_free(const volatile void *block)
{
    if (block)
        in_use -= (int64_t)__sanitizer_get_allocated_size(block);
}

static int64_t cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t begin = cpu_ms();
    in_use = most = 0;
    fuzz_input(data, size);
    int64_t ms = cpu_ms() - begin;
    most_of_all = MAX(most_of_all, most);
    longest_ms = MAX(longest_ms, ms);
    fuzz_require(ms <= MAX_MS, "%d ms", (int)ms);
    fuzz_require(most <= MAX_BYTES, "%d KiB", (int)(most >> 10));
    return 0;
}

static void report(void)
{
    fprintf(stderr, "stat::longest_input_ms: %d\nstat::largest_input_kb: %d\n", (int)longest_ms,
            (int)(most_of_all >> 10));
}

/* ---- reporting --------------------------------------------------------------------------- */

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
    if (__sanitizer_install_malloc_and_free_hooks)
        __sanitizer_install_malloc_and_free_hooks(note_malloc, note_free);
    atexit(report);
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
