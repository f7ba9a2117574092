/*
 * gate.c - the only place where the engine opens a file by name.
 *
 * Names come from two sources: the store's own directory entries, and images, which may lie.
 * Both are resolved by the kernel with RESOLVE_BENEATH from the store's descriptor, so that
 * neither "..", nor an absolute path, nor a symbolic link leads out of the store. One link
 * out is followed: a directory entry of the store that names a block device below /dev, because
 * that is how logical volumes are put into a store.
 *
 * A name is first resolved to an O_PATH descriptor, which opens nothing; only when that shows
 * a regular file or block device is the very same object opened (through /proc/self/fd), so
 * no FIFO, tape or socket is ever touched, not even between a check and an open.
 */
#include "error.h"
#include "path.h"
#include "strings.h"
#include "walk.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_LINKS = 8, /* of the store's entries that lead to each other, and then out of it */
    LEASE_TRIES = 100,
    LEASE_PAUSE_US = 1000,
};

struct QcGate {
    gatomicrefcount refs;
    int dirfd;
    QcBackingPolicy policy;
    char *store;                /* without symbolic links */
    char *given;                /* absolute, as the user spelled it */
    uint64_t own_device;        /* of the file system that this process serves; 0: of none */
    QcDeviceOpener open_device; /* or NULL: as any file */
    void *opener_data;
};

int qc_gate_new(const char *store, QcBackingPolicy policy, QcGate **ret, GError **error)
{
    int fd = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* Whether it may be searched, O_PATH does not ask. */
    bool usable = fd >= 0 && faccessat(fd, ".", X_OK, AT_EACCESS) == 0;
    char *real = usable ? realpath(store, NULL) : NULL;
    if (!real) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return qc_fail(error, err, "store %s: %s", store, g_strerror(-err));
    }
    QcGate *gate = g_new0(QcGate, 1);
    g_atomic_ref_count_init(&gate->refs);
    gate->dirfd = fd;
    gate->policy = policy;
    gate->store = real;
    gate->given = g_canonicalize_filename(store, NULL);
    *ret = gate;
    return 0;
}

QcGate *qc_gate_ref(QcGate *gate)
{
    g_atomic_ref_count_inc(&gate->refs);
    return gate;
}

void qc_gate_unref(QcGate *gate)
{
    if (!gate || !g_atomic_ref_count_dec(&gate->refs))
        return;
    close(gate->dirfd);
    free(gate->store);
    g_free(gate->given);
    g_free(gate);
}

int qc_gate_dirfd(const QcGate *gate)
{
    return gate->dirfd;
}

const char *qc_gate_store(const QcGate *gate)
{
    return gate->store;
}

char *qc_gate_full_path(const QcGate *gate, const char *path)
{
    return qc_path_under(gate->store, path);
}

QcBackingPolicy qc_gate_policy(const QcGate *gate)
{
    return gate->policy;
}

void qc_gate_set_own_device(QcGate *gate, uint64_t device)
{
    gate->own_device = device;
}

bool qc_gate_is_own(const QcGate *gate, int fd)
{
    uint64_t device;
    mode_t kind;
    return gate->own_device && qc_walk_look(fd, &device, &kind) == 0 && device == gate->own_device;
}

void qc_gate_set_device_opener(QcGate *gate, QcDeviceOpener opener, void *data)
{
    gate->open_device = opener;
    gate->opener_data = data;
}

/* ---- resolving -------------------------------------------------------------------------- */

/* An O_PATH descriptor of path, found without leaving the directory dirfd; or a negative errno.
 * resolve: more of openat2()'s flags. */
static int look_beneath(int dirfd, const char *path, int flags, uint64_t resolve)
{
    return qc_openat2(dirfd, path, O_PATH | flags,
                      RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve);
}

/* The same for a path of the store. */
static int resolve_beneath(const QcGate *gate, const char *path)
{
    /* Of an absolute path the kernel would say so too; but do not even ask. */
    return path[0] == '/' ? -EXDEV : look_beneath(gate->dirfd, path, 0, 0);
}

/* An absolute path as one relative to the store, or NULL when it is not inside. */
static const char *path_in_store(const QcGate *gate, const char *path)
{
    const char *rest = qc_path_strip(path, gate->given, false);
    return rest ? rest : qc_path_strip(path, gate->store, true);
}

/* The text of the link that path's last component is. False: it is none. */
static bool read_link(int dirfd, const char *path, uint64_t resolve, char text[PATH_MAX])
{
    int fd = look_beneath(dirfd, path, O_NOFOLLOW, resolve);
    if (fd < 0)
        return false;
    ssize_t n = readlinkat(fd, "", text, PATH_MAX);
    close(fd);
    if (n <= 0 || n == PATH_MAX)
        return false;
    text[n] = '\0';
    return true;
}

/*
 * A block device below /dev, without leaving its file system. Links there may name their targets by
 * absolute paths, as those that LVM makes without udev do: to the kernel such a link leaves /dev.
 */
static int resolve_device(const char *path)
{
    struct stat st;
    char text[PATH_MAX];
    int dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dev < 0)
        return -errno;
    int fd = look_beneath(dev, path, 0, RESOLVE_NO_XDEV);
    for (unsigned links = 0; fd == -EXDEV && links < MAX_LINKS; links++) {
        bool is_link = read_link(dev, path, RESOLVE_NO_XDEV, text);
        path = is_link ? qc_path_strip(text, "/dev", false) : NULL;
        if (!path)
            break;
        fd = look_beneath(dev, path, 0, RESOLVE_NO_XDEV);
    }
    int err = MIN(fd, 0);
    close(dev);
    if (!err && (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))) {
        close(fd);
        err = -EXDEV;
    }
    return err ? err : fd;
}

static int resolve_in_store(const QcGate *gate, const char *path, unsigned links);

/* Whether path, which ends in '/', leads from the store's directory to it again, and by no link. */
static int check_round(const QcGate *gate, const char *path)
{
    int fd = look_beneath(gate->dirfd, path, 0, RESOLVE_NO_SYMLINKS);
    if (fd >= 0)
        close(fd);
    return fd == -ELOOP ? -EXDEV : MIN(fd, 0);
}

/*
 * *path leads out of the store. Where its text says that it comes back by the names of the store's
 * real path, it is made the path inside that it amounts to, which is resolved. Only the text of
 * what lies outside counts, and nothing there is looked at; inside, a link before a ".." would make
 * the text wrong, so there must be none. links: how many may be followed, see resolve_in_store().
 */
static int resolve_coming_back(const QcGate *gate, char **path, unsigned links)
{
    size_t before;
    const char *rest = (*path)[0] == '/' ? NULL : qc_path_come_back(*path, gate->store, &before);
    if (!rest)
        return -EXDEV;
    g_autofree char *round = qc_strdup_printf("%.*s", (int)before, *path);
    g_autofree char *inside = qc_strdup_printf("%.*s%s", (int)before, *path, rest);
    if (!round || !inside)
        return -ENOMEM;
    int err = before > 0 ? check_round(gate, round) : 0;
    int fd = err ? err : resolve_in_store(gate, rest, links);
    if (fd >= 0) {
        g_free(*path);
        *path = g_steal_pointer(&inside);
    }
    return fd;
}

/*
 * path is an entry of the store that the kernel found to lead out of it. If the entry itself is
 * a link (one on the way there is not followed), its text may name a device below /dev; or a file
 * of the store, by its absolute path or by a way out and back, or another entry, which may be such
 * a link as well. Nothing else is even looked at: the text could lead into another file system that
 * does not answer, or into our own tree.
 */
static int resolve_link(const QcGate *gate, const char *path, unsigned links)
{
    if (path[0] == '/' || links == 0)
        return -EXDEV;
    char text[PATH_MAX];
    if (!read_link(gate->dirfd, path, 0, text))
        return -EXDEV;
    const char *device = qc_path_strip(text, "/dev", false);
    const char *inside = text[0] == '/' ? path_in_store(gate, text) : NULL;
    if (device)
        return resolve_device(device);
    if (inside)
        return resolve_in_store(gate, inside, links - 1);
    if (text[0] == '/')
        return -EXDEV;
    g_autofree char *next = qc_path_beside(path, text);
    if (!next)
        return -ENOMEM;
    int fd = resolve_coming_back(gate, &next, links - 1);
    return fd == -EXDEV ? resolve_link(gate, next, links - 1) : fd;
}

/* links: how many entries may lead out of the store to each other, one after another. */
static int resolve_in_store(const QcGate *gate, const char *path, unsigned links)
{
    int fd = resolve_beneath(gate, path);
    return fd == -EXDEV ? resolve_link(gate, path, links) : fd;
}

/* Under QC_BACKING_ANY: wherever it is. */
static int resolve_anywhere(const QcGate *gate, const char *path)
{
    return qc_walk(gate->dirfd, path, gate->own_device);
}

/* ---- opening ---------------------------------------------------------------------------- */

static const char *kind_of(mode_t kind)
{
    switch (kind) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
        return "a character device";
    default:
        return "of an unknown kind";
    }
}

/*
 * The very object that an O_PATH descriptor stands for, opened. A lease on it has to be given back
 * first, which the kernel asks for. Our own leases (posix.c) keep out writers only, and end at
 * once: so only an open for writing is tried again. Any owner of a file can hold a lease on it for
 * longer, and must not hold up the thread that comes by: -EBUSY.
 */
static int reopen(int path_fd, bool write)
{
    char proc[32];
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path_fd);
    int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(proc, flags);
    for (unsigned i = 0; write && i < LEASE_TRIES && fd < 0 && errno == EWOULDBLOCK; i++) {
        g_usleep(LEASE_PAUSE_US);
        fd = open(proc, flags);
    }
    if (fd < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return fd;
}

static int open_failed(const char *path, int err, GError **error)
{
    if (err == -EBUSY)
        return qc_fail(error, err, "%s: a program holds a lease on it; try again", path);
    return qc_fail(error, err, "%s: %s", path, g_strerror(-err));
}

/* Open what the O_PATH descriptor of path stands for. Closes path_fd. */
static int open_resolved(const QcGate *gate, int path_fd, const char *path, bool write,
                         QcFile **ret, GError **error)
{
    uint64_t device;
    mode_t kind;
    int err = qc_walk_look(path_fd, &device, &kind);
    if (err < 0) {
        close(path_fd);
        return qc_fail(error, err, "%s: %s", path, g_strerror(-err));
    }
    if (gate->own_device && device == gate->own_device) {
        close(path_fd);
        return qc_fail(error, -EDEADLK, "%s lies in this very tree", path);
    }
    if (!S_ISREG(kind) && !S_ISBLK(kind)) {
        close(path_fd);
        return qc_fail(error, -EOPNOTSUPP, "%s is %s, not a regular file or block device", path,
                       kind_of(kind));
    }
    int fd = gate->open_device && S_ISBLK(kind) ? gate->open_device(gate->opener_data, path, write)
                                                : reopen(path_fd, write);
    err = fd < 0 ? fd : qc_file_new_fd(fd, ret);
    close(path_fd);
    return err < 0 ? open_failed(path, err, error) : 0;
}

static int resolve_failed(const char *path, int err, GError **error)
{
    if (err == -EXDEV)
        return qc_fail(error, err, "%s leads out of the store", path);
    return qc_fail(error, err, "%s: %s", path, g_strerror(-err));
}

static int resolve(const QcGate *gate, const char *path)
{
    bool anywhere = path[0] == '/' && gate->policy == QC_BACKING_ANY;
    return anywhere ? resolve_anywhere(gate, path) : resolve_in_store(gate, path, MAX_LINKS);
}

int qc_gate_open_plain(QcGate *gate, const char *path, int flags)
{
    return qc_openat2(gate->dirfd, *path ? path : ".", flags | O_NOFOLLOW,
                      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

int qc_gate_stat(QcGate *gate, const char *path, QcFileStat *ret)
{
    int fd = resolve(gate, path);
    if (fd < 0)
        return fd;
    int err = qc_gate_is_own(gate, fd) ? -EDEADLK : qc_file_stat_at(fd, "", AT_EMPTY_PATH, ret);
    close(fd);
    return err;
}

int qc_gate_open(QcGate *gate, const char *path, bool write, QcFile **ret, GError **error)
{
    int fd = resolve(gate, path);
    if (fd < 0)
        return resolve_failed(path, fd, error);
    return open_resolved(gate, fd, path, write, ret, error);
}

/* ---- backing files ---------------------------------------------------------------------- */

/* Where the overlay's path and the path in its header together lead (g_free). NULL: no memory. */
static char *combine(const QcGate *gate, const char *overlay, const char *path)
{
    if (path[0] != '/')
        return qc_path_beside(overlay, path);
    const char *inside = path_in_store(gate, path);
    return qc_strdup_printf("%s", inside ? inside : path);
}

/* Of an absolute path only the text was looked at, not where it leads. */
static int refuse_outside(const QcGate *gate, const char *name, const char *path, GError **error)
{
    if (path[0] != '/')
        return qc_fail(error, -EPERM, "backing file %s lies outside the store (backing=store)",
                       name);
    return qc_fail(error, -EPERM,
                   "backing file %s is not named by a path inside %s (backing=store); if it lies "
                   "there, mount the store by the path that it names, or change the name by "
                   "qemu-img rebase -u",
                   name, gate->given);
}

int qc_gate_open_backing(QcGate *gate, const char *overlay, const char *name, char **ret_path,
                         QcFile **ret, GError **error)
{
    if (gate->policy == QC_BACKING_DENY)
        return qc_fail(error, -EPERM, "backing file %s: not allowed (backing=deny)", name);
    const char *path = qc_path_of_name(name);
    if (!path)
        return qc_fail(error, -EOPNOTSUPP, "backing file %s: only plain files are supported", name);
    if (path[0] == '\0')
        return qc_fail(error, -EINVAL, "the backing file's name is empty");

    g_autofree char *full = combine(gate, overlay, path);
    int fd = full ? resolve_in_store(gate, full, MAX_LINKS) : -ENOMEM;
    if (fd == -EXDEV && gate->policy == QC_BACKING_ANY) {
        g_autofree char *found = g_steal_pointer(&full);
        full = qc_gate_full_path(gate, found); /* an absolute one is not the store's */
        fd = full ? resolve_anywhere(gate, found) : -ENOMEM;
    } else if (fd == -EXDEV) {
        fd = resolve_coming_back(gate, &full, MAX_LINKS);
    }
    if (fd == -EXDEV)
        return refuse_outside(gate, name, path, error);
    if (fd < 0)
        return qc_fail(error, fd, "backing file %s: %s", name, g_strerror(-fd));
    int err = open_resolved(gate, fd, full, false, ret, error);
    if (err < 0) {
        g_prefix_error(error, "backing file ");
        return err;
    }
    *ret_path = g_steal_pointer(&full);
    return 0;
}
