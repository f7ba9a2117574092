/*
 * walk.c - a path resolved step by step, where the kernel may not do it in one go: a process
 * that serves a file system must not walk into it, as it would wait for itself.
 *
 * Each step opens one name without following it (O_PATH, which asks the file system that the
 * name leads to for nothing), looks at what that is, and only then goes on inside.
 */
#include "walk.h"

#include "strings.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    MAX_LINKS = 40,   /* as the kernel has it */
    MAX_TRIES = 1000, /* the most that a path of 20 times ".." has been seen to take is 15 */
};

typedef struct Walk {
    int at;     /* O_PATH: where we are */
    char *text; /* the names still to go, and those that were cut off before them */
    char *rest; /* where they begin in text; NULL: there are none */
    unsigned links;
    uint64_t forbidden;
} Walk;

static void move_to(Walk *walk, int fd)
{
    close(walk->at);
    walk->at = fd;
}

/* Cut the next name off the rest; NULL at the end. It is gone when a link is followed. */
static const char *next_name(Walk *walk)
{
    const char *name;
    do
        name = strsep(&walk->rest, "/");
    while (name && name[0] == '\0');
    return name;
}

/* Let a link's text take its place before the rest. */
static int put_before(Walk *walk, const char *link)
{
    char *text = qc_strdup_printf("%s/%s", link, walk->rest ? walk->rest : "");
    if (!text)
        return -ENOMEM;
    g_free(walk->text);
    walk->text = walk->rest = text;
    return 0;
}

static int follow(Walk *walk, int link)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(link, "", text, sizeof(text) - 1);
    if (n < 0)
        return -errno;
    if (++walk->links > MAX_LINKS)
        return -ELOOP;
    text[n] = '\0';
    int err = put_before(walk, text);
    if (err < 0 || text[0] != '/')
        return err;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    move_to(walk, root);
    return 0;
}

int qc_openat2(int dirfd, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};
    int fd = -1;
    errno = EAGAIN;
    for (unsigned i = 0; i < MAX_TRIES && fd < 0 && errno == EAGAIN; i++)
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

/* Into a directory that is none of ours; what is mounted there on demand is mounted now. */
static int enter(Walk *walk, const char *name)
{
    char inside[PATH_MAX];
    if (snprintf(inside, sizeof(inside), "%s/.", name) >= (int)sizeof(inside))
        return -ENAMETOOLONG;
    int fd = qc_openat2(walk->at, inside, O_PATH, RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fd;
    move_to(walk, fd);
    return 0;
}

int qc_walk_look(int fd, uint64_t *ret_device, mode_t *ret_kind)
{
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
        return -errno;
    *ret_device = makedev(st.stx_dev_major, st.stx_dev_minor);
    *ret_kind = st.stx_mode & S_IFMT;
    return 0;
}

static int step(Walk *walk, const char *name)
{
    uint64_t device = 0;
    mode_t kind = 0;
    int fd = openat(walk->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = qc_walk_look(fd, &device, &kind);
    if (!err && device == walk->forbidden)
        err = -EDEADLK;
    if (!err && !S_ISLNK(kind) && !S_ISDIR(kind)) {
        move_to(walk, fd);
        return 0;
    }
    if (!err)
        err = S_ISLNK(kind) ? follow(walk, fd) : enter(walk, name);
    close(fd);
    return err;
}

int qc_walk(int dirfd, const char *path, uint64_t forbidden)
{
    bool absolute = path[0] == '/';
    Walk walk = {
        .at = openat(dirfd, absolute ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC),
        .forbidden = forbidden,
    };
    if (walk.at < 0)
        return -errno;

    walk.text = walk.rest = qc_strdup_printf("%s", path);
    int err = walk.text ? 0 : -ENOMEM;
    const char *name;
    while (!err && (name = next_name(&walk)))
        err = step(&walk, name);
    g_free(walk.text);
    if (!err)
        return walk.at;
    close(walk.at);
    return err;
}
