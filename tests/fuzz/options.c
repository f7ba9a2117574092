/*
 * Fuzz target: the command line. The input is the arguments, each ended by a zero byte.
 */
#include "options.h"
#include "fuzz.h"
#include <string.h>

enum {
    MAX_ARGUMENTS = 16,
};

/* Those that have a value have one, and what is passed on is one option each. */
static void check_options(const Options *options)
{
    fuzz_require(options->help || options->version || (options->store && options->mountpoint));
    fuzz_require(options->foreground || !options->debug);
    fuzz_require(options->cache_mib > 0 && options->max_read <= G_MAXINT32);
    for (guint i = 0; i < options->fuse->len; i++) {
        const char *option = options->fuse->pdata[i];
        fuzz_require(*option && !g_str_has_suffix(option, "="), "%s", option);
        fuzz_require(g_str_has_prefix(option, "fsname=") <= options->has_fsname);
        fuzz_require(g_str_has_prefix(option, "subtype=") <= options->has_subtype);
        if (!strchr(option, '='))
            fuzz_require(!strpbrk(option, ",\\ \n"), "%s", option);
    }
}

void fuzz_input(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) arguments = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    Options options = {0};
    g_autofree char *copy = g_memdup2(data, size);
    g_ptr_array_add(arguments, "snaptree");
    for (size_t at = 0; at < size && arguments->len < MAX_ARGUMENTS;) {
        char *end = memchr(copy + at, 0, size - at);
        if (!end)
            break;
        g_ptr_array_add(arguments, copy + at);
        at = (size_t)(end - copy) + 1;
    }
    int n = (int)arguments->len;
    g_ptr_array_add(arguments, NULL);
    bool good = options_parse(&options, n, (char **)arguments->pdata, &error);
    fuzz_require(good == !error);
    if (good)
        check_options(&options);
    else
        fuzz_require(*error->message);
    options_clear(&options);
}
