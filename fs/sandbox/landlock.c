/*
 * landlock.c - which files the process may open.
 *
 * Landlock decides by the directory in which a file lies, whatever the process's user may do. What
 * is open already is not affected, nor are names that are only looked at (O_PATH).
 *
 * The kernel's interface has grown by versions; each right is named here with the first that
 * knows it, as the headers of the system may be older than its kernel.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RIGHTS_V1   ((UINT64_C(1) << 13) - 1) /* from EXECUTE to MAKE_SYM */
#define RENAME_V2   (UINT64_C(1) << 13)       /* across directories */
#define TRUNCATE_V3 (UINT64_C(1) << 14)
#define IOCTL_V5    (UINT64_C(1) << 15) /* on devices */
#define TCP_V4      UINT64_C(3)         /* bind, connect */
#define SCOPES_V6   UINT64_C(3)         /* abstract sockets of, signals to, processes outside */

/* struct landlock_ruleset_attr as of version 6. */
typedef struct Ruleset {
    uint64_t files, net, scopes;
} Ruleset;

static uint64_t rights_of(int abi)
{
    return RIGHTS_V1 | (abi >= 2 ? RENAME_V2 : 0) | (abi >= 3 ? TRUNCATE_V3 : 0) |
           (abi >= 5 ? IOCTL_V5 : 0);
}

/* An older kernel takes a shorter struct. */
static size_t ruleset_size(int abi)
{
    if (abi >= 6)
        return sizeof(Ruleset);
    return abi >= 4 ? offsetof(Ruleset, scopes) : offsetof(Ruleset, net);
}

/* Allow rights on all that lies beneath a directory, or on one file. */
static int allow(int ruleset, int fd, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};

    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
               ? -errno
               : 0;
}

static int allow_path(int ruleset, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = allow(ruleset, fd, rights);
    close(fd);
    return r;
}

static int allow_all(int ruleset, const SandboxPolicy *policy, uint64_t known)
{
    const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    const uint64_t write = LANDLOCK_ACCESS_FS_WRITE_FILE | (known & TRUNCATE_V3);
    int r = allow(ruleset, policy->store, read | (policy->may_write ? write : 0));

    if (r == 0) /* the groups of the process that makes a request */
        r = allow_path(ruleset, "/proc", read);
    if (r == 0 && policy->read_anywhere)
        r = allow_path(ruleset, "/", read);
    if (r == 0 && policy->fuse_device)
        r = allow_path(ruleset, "/dev/fuse",
                       LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                           (known & IOCTL_V5));
    return r;
}

int sandbox_landlock(const SandboxPolicy *policy, int *ret_abi)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 0)
        return -errno;

    Ruleset handled = {.files = rights_of((int)abi), .net = TCP_V4, .scopes = SCOPES_V6};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, ruleset_size((int)abi), 0);
    if (ruleset < 0)
        return -errno;
    int r = allow_all(ruleset, policy, handled.files);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    close(ruleset);
    *ret_abi = (int)abi;
    return r;
}
