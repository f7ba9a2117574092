/*
 * mountpoint.c - see mountpoint.h.
 *
 * A mount whose daemon was killed, keeper and all, answers ENOTCONN (or, for a moment,
 * ECONNABORTED, or ECANCELED when requests came over io_uring) to everything, for ever. It is of no
 * use to anybody, so it is taken away when the next daemon is to be mounted there, as after a
 * restart by a supervisor. Only mounts of our own type are.
 *
 * A tree must not come to lie inside itself, not even by way of other trees: a daemon that walks
 * into another one's tree, and from there into its own, waits for itself, and cannot be killed. The
 * mount table tells of such a way by paths alone; none of the trees is asked.
 *
 * A mount can be taken away by its path only, and what that takes is whatever is on top. So a
 * daemon that ends looks first whether that is its own tree.
 */
#include "mountpoint.h"

#include "log.h"
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MNT_ID_UNIQUE = 0x4000, /* of statx(2); Debian 12's C library does not name it */
    RUN_TRIES = 240,        /* longer than whoever started us waits, who takes up room meanwhile */
    RUN_PAUSE_US = 50 * 1000,
};

static const char our_type[] = "fuse.snaptree";

static bool is_our_mount(const char *path)
{
    g_auto(Mount) mount = {0};

    return mounts_find(path, &mount) == 0 && g_strcmp0(mount.type, our_type) == 0;
}

/* Of any subtype, as a mount of ours can be given another; mounting over it would hide it. */
static bool is_fuse_mount(const char *path)
{
    g_auto(Mount) mount = {0};

    if (mounts_find(path, &mount) < 0 || !mount.type)
        return false;

    g_auto(GStrv) parts = g_strsplit(mount.type, ".", 2); /* and the subtype */
    return g_strcmp0(parts[0], "fuse") == 0 || g_strcmp0(parts[0], "fuseblk") == 0;
}

/* For a while, as a process that there is no room for now may be started soon. */
static bool run(const char *const *argv)
{
    int status;

    for (int tries = 0; tries < RUN_TRIES; tries++) {
        g_autoptr(GError) error = NULL;

        if (g_spawn_sync(NULL, (char **)argv, NULL,
                         G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                         &status, &error))
            return g_spawn_check_wait_status(status, NULL);
        if (!g_error_matches(error, G_SPAWN_ERROR, G_SPAWN_ERROR_FORK))
            return false;
        g_usleep(RUN_PAUSE_US);
    }
    return false;
}

static bool unmount(const char *path)
{
    const char *argv[] = {"fusermount3", "-u", "-z", "-q", "--", path, NULL};

    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return true;
    return errno == EPERM && run(argv);
}

static bool is_of_dead_mount(int r)
{
    return r == -ENOTCONN || r == -ECONNABORTED || r == -ECANCELED;
}

/* stat(2), after taking away what is dead. 0 or -errno. */
static int look(const char *path, struct stat *st)
{
    int r = stat(path, st) < 0 ? -errno : 0;

    if (!is_of_dead_mount(r) || !is_our_mount(path))
        return r;
    unmount(path);
    if (stat(path, st) < 0)
        return -errno;
    log_info("%s: a mount without a daemon was left there, and is gone now", path);
    return 0;
}

/* Whether a path leads through a directory, by whatever name: it may be bound to another place. 1,
 * 0; -errno: it cannot be told. */
static int leads_through(const char *path, const char *directory)
{
    g_autofree char *at = g_strdup(path);
    struct stat wanted, st;

    if (stat(directory, &wanted) < 0)
        return -errno;
    for (;;) {
        if (stat(at, &st) < 0)
            return -errno;
        if (st.st_dev == wanted.st_dev && st.st_ino == wanted.st_ino)
            return 1;
        if (strcmp(at, "/") == 0)
            return 0;

        char *above = g_path_get_dirname(at);
        g_free(at);
        at = above;
    }
}

/* given: the mountpoint as the user has it. False, after saying why: it lies inside the store. */
static bool lies_outside(const char *store, const char *mountpoint, const char *given)
{
    int r = leads_through(mountpoint, store);

    if (r < 0)
        log_error("mountpoint %s, and whether it lies inside the store %s: %s", given, store,
                  g_strerror(-r));
    else if (r > 0)
        log_error("mountpoint %s lies inside the store %s", given, store);
    else if (mounts_lead_to(store, mountpoint, our_type))
        log_error("mountpoint %s lies inside the store %s, by way of another tree that is mounted "
                  "in there",
                  given, store);
    else
        return true;
    return false;
}

char *mountpoint_check(const char *store, const char *mountpoint)
{
    g_autofree char *real = NULL;
    char *resolved = realpath(mountpoint, NULL);
    struct stat st;
    int r = resolved ? 0 : -errno;

    real = g_strdup(resolved);
    free(resolved);
    if (r == 0)
        r = look(real, &st);
    if (r < 0) {
        log_error("mountpoint %s: %s", mountpoint, g_strerror(-r));
        return NULL;
    }
    if (!S_ISDIR(st.st_mode)) {
        log_error("mountpoint %s is not a directory", mountpoint);
        return NULL;
    }
    if (is_fuse_mount(real)) {
        log_error("mountpoint %s: a FUSE file system is mounted there already; unmount it first",
                  mountpoint);
        return NULL;
    }
    if (!lies_outside(store, real, mountpoint))
        return NULL;
    return g_steal_pointer(&real);
}

void mountpoint_forbid_links(const QcGate *gate, const char *mountpoint)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSYMFOLLOW};
    int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC); /* which asks it for nothing */

    if (fd >= 0 && qc_gate_is_own(gate, fd))
        mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr));
    if (fd >= 0)
        close(fd);
}

bool mountpoint_may_unmount(const char *mountpoint, dev_t device)
{
    g_auto(Mount) mount = {0};
    int r = mounts_find(mountpoint, &mount);

    if (!device || r == -EIO) /* there is only the path to go by */
        return true;
    if (r == 0 && mount.device == device)
        return true;
    if (mounts_has(mountpoint, device))
        log_error("%s: not unmounted, as another file system (%s) is mounted over it", mountpoint,
                  mount.type);
    else if (r == 0)
        log_info("%s: nothing unmounted, as what is mounted there now (%s) is not ours", mountpoint,
                 mount.type);
    return false;
}

uint64_t mountpoint_number(const char *path)
{
    struct statx st;
    uint64_t number = 0;
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, MNT_ID_UNIQUE, &st) == 0 &&
        st.stx_mask & MNT_ID_UNIQUE)
        number = st.stx_mnt_id;
    close(fd);
    return number;
}

bool mountpoint_clear(dev_t device, uint64_t number)
{
    g_auto(GStrv) paths = number ? mounts_of_device(device) : NULL;

    for (char **path = paths; path && *path; path++) {
        if (mountpoint_number(*path) != number)
            continue;
        bool gone = unmount(*path);
        if (gone)
            log_info("%s: what was left of the mount there is gone now", *path);
        else
            log_error("%s: what is left of the mount there cannot be unmounted", *path);
        return gone;
    }
    return false;
}
