#include "daemon.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    EXIT_USAGE = 2,
};

int main(int argc, char **argv)
{
    Options options = {0};
    g_autoptr(GError) error = NULL;
    int status = EXIT_SUCCESS;

    if (!options_parse(&options, argc, argv, &error)) {
        log_error("%s", error->message);
        status = EXIT_USAGE;
    } else if (options.version) {
        printf("snaptree %s\n", SNAPTREE_VERSION);
    } else {
        status = daemon_run(&options);
    }
    options_clear(&options);
    return status;
}
