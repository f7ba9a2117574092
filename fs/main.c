/* main.c - the program: reads the command line, then mounts. */
#include "daemon.h"
#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2,
};

/* What is opened later must not become standard input or output, should these be closed. */
static void open_standard_files(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Help that could not be printed is not help. */
static int print(const char *text)
{
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
        return EXIT_SUCCESS;
    log_error("cannot write to standard output");
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    Options options = {0};
    g_autoptr(GError) error = NULL;
    int status = EXIT_SUCCESS;

    closefrom(STDERR_FILENO + 1); /* a daemon must not keep locks, pipes and files of its caller */
    open_standard_files();

    if (!options_parse(&options, argc, argv, &error)) {
        log_error("%s", error->message);
        status = EXIT_USAGE;
    } else if (options.help) {
        status = print(options.help);
    } else if (options.version) {
        status = print("snaptree " SNAPTREE_VERSION "\n");
    } else {
        status = daemon_run(&options);
    }
    options_clear(&options);
    return status;
}
