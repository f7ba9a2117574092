/* store.c - see store.h. */
#include "store.h"

#include "acl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void store_item_clear(StoreItem *item)
{
    qc_file_unref(item->file);
    g_clear_error(&item->error);
    memset(item, 0, sizeof(*item));
}

/* The state of the file at path itself, a symbolic link included. */
static int stat_beneath(QcGate *gate, const char *path, QcFileStat *ret)
{
    int fd = qc_gate_open_plain(gate, path, O_PATH);
    int r = fd < 0 ? fd : qc_gate_is_own(gate, fd) ? -ENOENT : 0;

    if (r == 0)
        r = qc_file_stat_at(fd, "", AT_EMPTY_PATH, ret);
    if (r == 0)
        acl_limit(fd, ret);
    if (fd >= 0)
        close(fd);
    return r;
}

/* The path that the kernel knows a descriptor by (g_free). */
static int path_of(int fd, char **ret)
{
    char link[32], path[PATH_MAX];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path));
    if (n < 0 || n == (ssize_t)sizeof(path))
        return n < 0 ? -errno : -ENAMETOOLONG;
    *ret = g_strndup(path, (gsize)n);
    return 0;
}

/* Where in the store an open file lies by now, whatever links led to it (g_free). NULL: outside. */
static int find_place(QcGate *gate, int fd, char **ret)
{
    g_autofree char *store = NULL, *path = NULL;
    int r = path_of(qc_gate_dirfd(gate), &store);

    if (r == 0)
        r = path_of(fd, &path);
    if (r < 0)
        return r;

    size_t n = strcmp(store, "/") == 0 ? 0 : strlen(store);
    bool inside = strncmp(path, store, n) == 0 && path[n] == '/';
    *ret = inside ? g_strdup(path + n + 1) : NULL;
    return 0;
}

/* Whether a file that cannot be read is meant to be an image, by its name. */
static bool sounds_like_image(const char *path)
{
    static const char *const suffixes[] = {".qcow2", ".qcow", ".raw", ".img", ".iso",  ".vmdk",
                                           ".vdi",   ".vhd",  ".vpc", ".qed", ".vhdx", ".luks"};
    g_autofree char *name = g_ascii_strdown(store_base_name(path), -1);

    for (unsigned i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        if (g_str_has_suffix(name, suffixes[i]))
            return true;
    }
    return false;
}

/* Whether path leads to a block device, which is an image under any name; nothing is opened. */
static bool is_device(QcGate *gate, const char *path)
{
    QcFileStat stat;

    return qc_gate_stat(gate, path, &stat) == 0 && S_ISBLK(stat.mode);
}

/* Whether an errno says that a path leads to nothing, and not that the store could not tell. */
static bool is_absence(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV || r == -EDEADLK ||
           r == -EINVAL;
}

/*
 * Whether what could not be opened or read is none of ours; otherwise it is an image that has an
 * error. By its name; but a file that the storage fails to give may be an image under any name.
 * (-EOPNOTSUPP: a link to a directory, a FIFO or the like.)
 */
static bool is_none_of_ours(QcGate *gate, const char *path, int r)
{
    bool told = is_absence(r) || r == -EACCES || r == -EPERM || r == -ENXIO || r == -ENODEV;

    return r == -EOPNOTSUPP || (told && !sounds_like_image(path) && !is_device(gate, path));
}

/* An image of which nothing is known but an error; there is nothing to hide but that. */
static void set_unreadable(const char *path, int r, StoreItem *item)
{
    if (item->is_link && (r == -ENOENT || r == -ENOTDIR)) {
        g_clear_error(&item->error); /* "no such file", of a name that is listed */
        g_set_error(&item->error, QC_ERROR, -r, "%s is a link that leads to no file", path);
    } else if (!item->error) {
        g_set_error(&item->error, QC_ERROR, -r, "cannot read %s: %s", path, g_strerror(-r));
    }
    g_clear_pointer(&item->file, qc_file_unref);
    /* Of a link, the mode means nothing. */
    item->stat.mode = (item->is_link ? 0 : item->stat.mode & 0222) | 0444;
}

/* Open the file of a candidate and tell its format. -ENOENT: it is none of ours. */
static int open_candidate(QcGate *gate, const char *path, StoreItem *item)
{
    item->is_link = S_ISLNK(item->stat.mode);
    int r = qc_gate_open(gate, path, false, &item->file, &item->error);

    if (r == 0)
        r = qc_file_stat(item->file, &item->stat);
    if (r == 0)
        acl_limit(qc_file_fd(item->file), &item->stat);
    if (r == 0 && item->is_link)
        store_limit(gate, item->file, &item->stat);
    if (r == 0)
        r = qc_probe(item->file, store_base_name(path), &item->format, &item->format_name);
    if (r == 0)
        return item->format == QC_FORMAT_NONE ? -ENOENT : 0;
    if (qc_is_shortage(r))
        return r;
    if (is_none_of_ours(gate, path, r))
        return -ENOENT;
    set_unreadable(path, r, item);
    return 0;
}

/* Nothing tells what is at a path. Where its name says that, an image with an error, or -errno. */
static int look_failed(const char *path, int r, StoreItem *item)
{
    if (is_absence(r))
        return -ENOENT;
    if (r == -EACCES || r == -ENAMETOOLONG || qc_is_shortage(r) || !sounds_like_image(path))
        return r;
    set_unreadable(path, r, item);
    return 0;
}

int store_look(QcGate *gate, const char *path, StoreItem *ret)
{
    g_auto(StoreItem) item = {.kind = STORE_IMAGE};
    int r = stat_beneath(gate, path, &item.stat);

    if (r < 0)
        r = look_failed(path, r, &item);
    else if (S_ISDIR(item.stat.mode))
        item.kind = STORE_DIR;
    else if (S_ISREG(item.stat.mode) || S_ISLNK(item.stat.mode) || S_ISBLK(item.stat.mode))
        r = open_candidate(gate, path, &item);
    else
        r = -ENOENT;
    if (r < 0)
        return r;
    *ret = item;
    memset(&item, 0, sizeof(item));
    return 0;
}

char *store_join(const char *dir, const char *name)
{
    return *dir ? g_strdup_printf("%s/%s", dir, name) : g_strdup(name);
}

const char *store_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

char *store_path_from_argument(const char *arg)
{
    g_autoptr(GString) path = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(arg, "/", -1);

    if (*arg == '/')
        return NULL;
    for (char **part = parts; *part; part++) {
        if (strcmp(*part, "..") == 0)
            return NULL;
        if (**part && strcmp(*part, ".") != 0)
            g_string_append_printf(path, "%s%s", path->len ? "/" : "", *part);
    }
    return path->len ? g_string_free(g_steal_pointer(&path), FALSE) : NULL;
}

/*
 * The next directory above a path, from the outermost; *at begins at path. 1: there is one; 0:
 * there are no more. -ELOOP: it is a link.
 */
static int next_dir(QcGate *gate, const char *path, const char **at, QcFileStat *ret)
{
    const char *slash = strchr(*at, '/');

    if (!slash)
        return 0;

    g_autofree char *dir = g_strndup(path, (gsize)(slash - path));
    int r = stat_beneath(gate, dir, ret);

    *at = slash + 1;
    if (r < 0)
        return r;
    return S_ISDIR(ret->mode) ? 1 : S_ISLNK(ret->mode) ? -ELOOP : -ENOENT;
}

/* 0, -EACCES, -ELOOP at a link. */
static int reach(QcGate *gate, const Creds *creds, const char *path)
{
    const char *at = path;
    QcFileStat dir;
    int r = 0;

    if (creds_is_root(creds))
        return 0;
    while ((r = next_dir(gate, path, &at, &dir)) > 0) {
        if (!creds_may(creds, &dir, CREDS_SEARCH))
            return -EACCES;
    }
    return r;
}

int store_reach(QcGate *gate, const Creds *creds, const char *path)
{
    int r = reach(gate, creds, path);

    return r == -ELOOP ? -ENOENT : r;
}

int store_reach_layer(QcGate *gate, const Creds *creds, const char *path, QcFile *file)
{
    int r = reach(gate, creds, path);

    return r == 0 || r == -ELOOP ? store_reach_file(gate, creds, file) : r;
}

bool store_is_hidden(const char *path)
{
    return strcmp(path, "control") == 0 || g_str_has_prefix(path, "control/");
}

int store_look_as(QcGate *gate, const Creds *creds, const char *path, StoreItem *ret)
{
    int r = store_is_hidden(path) ? -ENOENT : store_reach(gate, creds, path);

    return r < 0 ? r : store_look(gate, path, ret);
}

int store_reach_file(QcGate *gate, const Creds *creds, QcFile *file)
{
    g_autofree char *place = NULL;
    int r = creds_is_root(creds) ? 0 : find_place(gate, qc_file_fd(file), &place);

    return r == 0 && place ? store_reach(gate, creds, place) : r;
}

/*
 * What is left of a file's mode below a directory. Of the users whom a mode means it is only known
 * that they own the file, are in its group, or neither. To the directory they may be anything that
 * this does not exclude, so they keep a right only where all that they may be can search it. Root
 * can search every directory.
 */
static uint32_t mode_below(const QcFileStat *dir, const QcFileStat *file)
{
    bool owner = dir->mode & S_IXUSR, group = dir->mode & S_IXGRP, others = dir->mode & S_IXOTH;
    bool same_owner = dir->uid == file->uid, same_group = dir->gid == file->gid;
    /* Who owns the directory can search it, or is the file's owner, too, and not among the rest. */
    bool owner_passes = same_owner || dir->uid == 0 || owner;
    uint32_t mode = file->mode;

    if (!(same_owner ? owner : group && others))
        mode &= ~(uint32_t)S_IRWXU;
    if (!(owner_passes && group && (same_group || others)))
        mode &= ~(uint32_t)S_IRWXG;
    if (!(owner_passes && (same_group || group) && others))
        mode &= ~(uint32_t)S_IRWXO;
    return mode;
}

void store_limit(QcGate *gate, QcFile *file, QcFileStat *stat)
{
    g_autofree char *place = NULL;
    QcFileStat dir;
    int r = find_place(gate, qc_file_fd(file), &place);

    for (const char *at = place; at && (r = next_dir(gate, place, &at, &dir)) > 0;)
        stat->mode = mode_below(&dir, stat);
    if (r < 0)
        stat->mode &= S_IFMT;
}

/* ---- listing ----------------------------------------------------------------------------- */

static bool is_sure_dir(QcGate *gate, DIR *dir, const struct dirent *entry)
{
    if (entry->d_type != DT_DIR)
        return false;

    int fd = openat(dirfd(dir), entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool sure = fd >= 0 && !qc_gate_is_own(gate, fd);
    if (fd >= 0)
        close(fd);
    return sure;
}

static StoreName *name_of(QcGate *gate, DIR *dir, const struct dirent *entry)
{
    size_t size = strlen(entry->d_name) + 1;
    StoreName *name = g_malloc(sizeof(*name) + size);

    name->is_dir = is_sure_dir(gate, dir, entry);
    memcpy(name->name, entry->d_name, size);
    return name;
}

/* Whether the caller may list an open directory of the store. */
static int check_dir(QcGate *gate, const Creds *creds, int fd)
{
    g_autofree char *place = NULL;
    QcFileStat stat;

    if (creds_is_root(creds))
        return 0;
    int r = qc_file_stat_at(fd, "", AT_EMPTY_PATH, &stat);
    if (r == 0)
        acl_limit(fd, &stat);
    if (r == 0 && !creds_may(creds, &stat, CREDS_READ))
        r = -EACCES;
    if (r == 0)
        r = find_place(gate, fd, &place);
    return r == 0 && place ? store_reach(gate, creds, place) : r;
}

int store_list(QcGate *gate, const Creds *creds, const char *path, GPtrArray **ret)
{
    int fd = qc_gate_open_plain(gate, path, O_RDONLY | O_DIRECTORY);

    if (fd < 0)
        return fd;
    int r = check_dir(gate, creds, fd);
    DIR *dir = r == 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        r = r < 0 ? r : -errno;
        close(fd);
        return r;
    }

    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, name_of(gate, dir, entry));
    }
    r = -errno;
    closedir(dir);
    if (r == 0)
        *ret = g_steal_pointer(&names);
    return r;
}
