/* Who is named as having a file open: in one line, whatever a process calls itself. */
#include "holder.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process of that name that has the file open, and a lock that keeps writers out. */
static pid_t start_holder(const char *path, const char *name)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
    int ready[2];
    char byte;

    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, name);
        if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0 && write(ready[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

Test(holder, named_in_one_line)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp(NULL, &path, NULL);
    QcFileStat stat;

    cr_assert_eq(qc_file_stat_at(fd, "", AT_EMPTY_PATH, &stat), 0);
    pid_t child = start_holder(path, "qemu\n\x1b[2J\xc2\x9b");
    g_autofree char *found = holder_find(&stat, getpid());
    g_autofree char *wanted =
        g_strdup_printf("qemu\\x0a\\x1b[2J\\xc2\\x9b (process %d) has", (int)child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_expect_str_eq(found, wanted);
    unlink(path);
    close(fd);
}
