/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target is one file, TARGET.c, that defines fuzz_input() and, where inputs have a structure,
 * LLVMFuzzerCustomMutator(). Built with libFuzzer (preset fuzz) it hunts; built
 * with driver.c (all other presets) it runs the seeds and the regressions as a test.
 *
 * Every input is measured: it may take a second of the processor and, where a sanitizer can
 * tell, 256 MiB of memory. The most that any took is printed in the end.
 *
 * Linking this also installs a log handler that ends the program: the engine never logs.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void fuzz_input(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* fuzz_input(), measured */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size); /* libFuzzer's own */

/* Report a broken promise and abort. */
void fuzz_fail(const char *file, int line, const char *promise, const char *format, ...)
    G_GNUC_PRINTF(4, 5) G_GNUC_NORETURN;

#define fuzz_require(condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fuzz_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__);                            \
    } while (0)

/* That a result and its GError agree, and that the error says something. */
void fuzz_check_error(int result, const GError *error);

/* Bytes of the input not used yet. Past the end there are zeros. */
typedef struct FuzzBytes {
    const uint8_t *at;
    size_t left;
} FuzzBytes;

uint64_t fuzz_take(FuzzBytes *bytes, unsigned n); /* n bytes as a number, at most 8 */

#endif
