/*
 * driver.c - a fuzz target as an ordinary test: driver [-mutants=N] FILE-or-DIRECTORY...
 *
 * Runs every file once, and N mutants of each that are the same in every run. With libFuzzer
 * this file is not used.
 */
#include "fuzz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_SIZE = 1 << 20,
    MAX_CHANGES = 8,
};

static GRand *dice;

/* What targets without a mutator of their own get: a few bytes changed, moved, cut or added. */
static size_t change_bytes(uint8_t *data, size_t size, size_t max_size)
{
    static const uint8_t interesting[] = {0, 1, 0x7f, 0x80, 0xff, 0x25, '\n', '\'', 0x2f};
    int changes = g_rand_int_range(dice, 1, MAX_CHANGES);
    if (size == 0 && max_size > 0)
        data[size++] = 0;
    for (int i = 0; i < changes && size > 0; i++) {
        size_t at = (size_t)g_rand_int_range(dice, 0, (gint32)size);
        switch (g_rand_int_range(dice, 0, 5)) {
        case 0:
            data[at] = (uint8_t)g_rand_int(dice);
            break;
        case 1:
            data[at] ^= (uint8_t)(1u << g_rand_int_range(dice, 0, 8));
            break;
        case 2:
            data[at] = interesting[g_rand_int_range(dice, 0, sizeof(interesting))];
            break;
        case 3: /* cut, rarely */
            if (g_rand_int_range(dice, 0, 8) == 0)
                size = at + 1;
            break;
        default: /* repeat a stretch */
            memmove(data + at, data + at / 2, MIN(size - at, 16));
        }
    }
    return size;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    return change_bytes(data, size, max_size);
}

/* A target may have one; the linker decides. */
extern __typeof__(LLVMFuzzerCustomMutator) LLVMFuzzerCustomMutator __attribute__((weak));

static size_t mutate(uint8_t *data, size_t size, size_t max_size)
{
    if (LLVMFuzzerCustomMutator)
        return LLVMFuzzerCustomMutator(data, size, max_size, g_rand_int(dice));
    return change_bytes(data, size, max_size);
}

/* In a block of just its size, so that a read past its end is found. */
static void run_input(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(MAX(size, 1));
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_mutants(const char *seed, size_t size, unsigned n)
{
    g_autofree uint8_t *data = g_malloc(MAX_SIZE);
    for (unsigned i = 0; i < n; i++) {
        memcpy(data, seed, MIN(size, MAX_SIZE));
        size_t now = mutate(data, MIN(size, MAX_SIZE), MAX_SIZE);
        now = mutate(data, now, MAX_SIZE);
        run_input(data, now);
    }
}

static void run_file(const char *path, unsigned mutants, unsigned *files)
{
    g_autofree char *data = NULL;
    gsize size;
    if (!g_file_get_contents(path, &data, &size, NULL))
        fuzz_fail(__FILE__, __LINE__, "input", " %s cannot be read", path);
    run_input((const uint8_t *)data, size);
    run_mutants(data, size, mutants);
    ++*files;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of a directory in a fixed order, so that runs are the same. */
static void run_directory(const char *path, unsigned mutants, unsigned *files)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (const char *name; dir && (name = g_dir_read_name(dir));)
        g_ptr_array_add(names, g_build_filename(path, name, NULL));
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++)
        run_file(names->pdata[i], mutants, files);
}

int main(int argc, char **argv)
{
    unsigned mutants = 0, files = 0;
    dice = g_rand_new_with_seed(1);
    for (int i = 1; i < argc; i++) {
        if (g_str_has_prefix(argv[i], "-mutants="))
            mutants = (unsigned)strtoul(argv[i] + strlen("-mutants="), NULL, 10);
        else if (g_file_test(argv[i], G_FILE_TEST_IS_DIR))
            run_directory(argv[i], mutants, &files);
        else if (g_file_test(argv[i], G_FILE_TEST_EXISTS))
            run_file(argv[i], mutants, &files);
    }
    g_rand_free(dice);
    printf("%u files, %u mutants of each\n", files, mutants);
    return files > 0 ? 0 : 1;
}
