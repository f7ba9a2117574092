/*
 * qctool - the engine's public API from the command line.
 *
 * A tool for the tests and for making sample stores, not for users: it does one thing to one
 * image and ends. Nothing but include/ is used, so that what it can do, any program can.
 *
 * $STORE is the directory that images may not leave, and FILE is then relative to it; without
 * it, it is the directory of FILE. $BACKING is the policy: deny, store (default) or any.
 *
 * Exit 0, or 1 with a line on standard error that begins with the name of the errno, or 2 for
 * wrong usage.
 */
#include "qcow.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_BYTES (8u << 20)
#define READ_BYTES  (1u << 20)
#define WRITE_BYTES (8u << 20) /* of one transaction: bounds memory, keeps transactions few */

/* One image, opened for one transaction or for reading. */
typedef struct Session {
    QcGate *gate;
    char *path; /* in the store */
    QcCache *cache;
    QcFile *file;
    QcFormat format;
    QcImage *image;
    QcChain *chain;
} Session;

static void session_clear(Session *s)
{
    qc_chain_free(s->chain);
    qc_image_unref(s->image);
    qc_file_unref(s->file);
    qc_cache_unref(s->cache);
    qc_gate_unref(s->gate);
    g_free(s->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Session, session_clear)

static int fail(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);
static int fail(GError **error, int err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(QC_ERROR, -err, format, args));
    va_end(args);
    return err;
}

/* ---- arguments -------------------------------------------------------------------------- */

/* Bytes, with an optional K, M, G or T. */
static int parse_size(const char *text, uint64_t *ret, GError **error)
{
    static const char suffixes[] = "KMGT";
    char *end;
    errno = 0;
    uint64_t n = g_ascii_strtoull(text, &end, 0);
    const char *suffix = *end ? strchr(suffixes, *end) : NULL;
    unsigned shift = suffix ? (unsigned)(suffix - suffixes + 1) * 10 : 0;
    if (errno || end == text || (*end && !suffix) || (suffix && end[1]) || *text == '-' ||
        n > UINT64_MAX >> shift)
        return fail(error, -EINVAL, "%s is not a size", text);
    *ret = n << shift;
    return 0;
}

/* The value of the argument key=value, or NULL when arg is not key's. */
static const char *value_of(const char *arg, const char *key)
{
    size_t len = strlen(key);
    return strncmp(arg, key, len) == 0 && arg[len] == '=' ? arg + len + 1 : NULL;
}

static QcBackingPolicy policy(void)
{
    const char *text = g_getenv("BACKING");
    if (g_strcmp0(text, "deny") == 0)
        return QC_BACKING_DENY;
    return g_strcmp0(text, "any") == 0 ? QC_BACKING_ANY : QC_BACKING_STORE;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int open_file(Session *s, const char *arg, bool write, GError **error)
{
    const char *env = g_getenv("STORE");
    g_autofree char *dir = env ? g_strdup(env) : g_path_get_dirname(arg);
    s->path = env ? g_strdup(arg) : g_path_get_basename(arg);
    s->cache = qc_cache_new(CACHE_BYTES);
    if (!s->cache)
        return fail(error, -ENOMEM, "no memory for tables");
    int r = qc_gate_new(dir, policy(), &s->gate, error);
    if (r < 0)
        return r;
    r = qc_gate_open(s->gate, s->path, write, &s->file, error);
    if (r < 0)
        return r;
    r = qc_probe(s->file, s->path, &s->format, NULL);
    if (r < 0)
        return fail(error, r, "%s cannot be read", s->path);
    if (s->format != QC_FORMAT_QCOW2 && s->format != QC_FORMAT_RAW)
        return fail(error, -EOPNOTSUPP, "%s is no image that the engine reads", s->path);
    return 0;
}

/* Open the image in the state that it has now; a transaction used the one before up. */
static int reopen_image(Session *s, GError **error)
{
    g_clear_pointer(&s->chain, qc_chain_free);
    g_clear_pointer(&s->image, qc_image_unref);
    int r = qc_image_open(s->file, s->path, s->format, s->cache, &s->image, error);
    if (r < 0)
        return r;
    r = qc_chain_open(s->gate, s->image, s->cache, &s->chain);
    return r < 0 ? fail(error, r, "the chain of %s cannot be opened", s->path) : 0;
}

static int open_to_read(Session *s, const char *arg, GError **error)
{
    int r = open_file(s, arg, false, error);
    if (r < 0)
        return r;
    qc_file_settle(s->file, NULL);
    return reopen_image(s, error);
}

static int open_to_change(Session *s, const char *arg, GError **error)
{
    int r = open_file(s, arg, true, error);
    if (r < 0)
        return r;
    r = qc_lock_writer(s->file, error);
    return r < 0 ? r : reopen_image(s, error);
}

/* The index of the snapshot with the name, or with the id behind a '#'. */
static int find_snapshot(const Session *s, const char *name, unsigned *ret, GError **error)
{
    const QcInfo *info = qc_image_info(s->image);
    for (unsigned i = 0; i < info->n_snapshots; i++) {
        const QcSnapshot *snapshot = &info->snapshots[i];
        bool hit = name[0] == '#' ? strcmp(snapshot->id, name + 1) == 0
                                  : snapshot->name_len == strlen(name) &&
                                        memcmp(snapshot->name, name, snapshot->name_len) == 0;
        if (hit) {
            *ret = i;
            return 0;
        }
    }
    return fail(error, -ENOENT, "%s has no snapshot %s", s->path, name);
}

/* The view that the arguments name: snapshot=NAME, layer=N, or the disk. */
static int open_view(Session *s, char **args, QcView **ret, GError **error)
{
    const char *name = args[0] ? value_of(args[0], "snapshot") : NULL;
    const char *layer = args[0] ? value_of(args[0], "layer") : NULL;
    if (name) {
        unsigned index;
        int r = find_snapshot(s, name, &index, error);
        if (r == 0 && (r = qc_chain_snapshot_view(s->chain, index, ret)) < 0)
            fail(error, r, "snapshot %s of %s cannot be opened", name, s->path);
        return r;
    }
    if (args[0] && !layer)
        return fail(error, -EINVAL, "%s is neither snapshot=NAME nor layer=N", args[0]);
    /* Somebody writes the active disk: no two reads of it would fit together. */
    if (qc_lock_has_writer(s->file) == 1)
        return fail(error, -EBUSY, "%s is being written", s->path);
    unsigned n = layer ? (unsigned)atoi(layer) : 0;
    if (n >= qc_chain_layers(s->chain))
        return fail(error, -ENOENT, "%s has no layer %u: %s", s->path, n,
                    qc_chain_error(s->chain) ? qc_chain_error(s->chain) : "the chain ends before");
    *ret = qc_view_ref(qc_chain_view(s->chain, n));
    return 0;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* For the only writer: nobody else can change what it reads. */
static int read_locked(Session *s, QcView *view, uint8_t *buf, size_t len, uint64_t offset,
                       GError **error)
{
    ssize_t n = qc_view_read(view, buf, len, offset);
    if (n != (ssize_t)len)
        return fail(error, n < 0 ? (int)n : -EIO, "%s at %" PRIu64 ": %s", s->path, offset,
                    qc_chain_error(s->chain) ? qc_chain_error(s->chain) : "cannot be read");
    return 0;
}

static int read_view(Session *s, QcView *view, uint8_t *buf, size_t len, uint64_t offset,
                     GError **error)
{
    int r = read_locked(s, view, buf, len, offset, error);
    if (r < 0)
        return r;
    r = qc_view_check(view);
    return r < 0 ? fail(error, r, "%s changed while it was read", s->path) : 0;
}

/* All bytes of a view, to standard output. */
static int cat_view(Session *s, QcView *view, GError **error)
{
    g_autofree uint8_t *buf = g_malloc(READ_BYTES);
    uint64_t size = qc_view_size(view);
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < size; at += READ_BYTES) {
        size_t len = MIN(READ_BYTES, size - at);
        r = read_view(s, view, buf, len, at, error);
        if (r == 0 && fwrite(buf, 1, len, stdout) != len)
            r = fail(error, -errno, "standard output: %s", g_strerror(errno));
    }
    return r;
}

static int run_cat(char **args, GError **error)
{
    g_auto(Session) s = {0};
    g_autoptr(QcView) view = NULL;
    int r = open_to_read(&s, args[0], error);
    if (r == 0)
        r = open_view(&s, args + 1, &view, error);
    return r == 0 ? cat_view(&s, view, error) : r;
}

static void print_snapshot(const QcSnapshot *snapshot)
{
    printf("%s %" PRIu64 " ", snapshot->id, snapshot->disk_size);
    fwrite(snapshot->name, 1, snapshot->name_len, stdout);
    putchar('\n');
}

static int dump_snapshot(Session *s, unsigned index, GError **error)
{
    g_autoptr(QcView) view = NULL;
    print_snapshot(&qc_image_info(s->image)->snapshots[index]);
    int r = qc_chain_snapshot_view(s->chain, index, &view);
    return r < 0 ? fail(error, r, "snapshot %u of %s cannot be opened", index, s->path)
                 : cat_view(s, view, error);
}

/* The disk and all snapshots, in one go: a line for each as list prints it, and its bytes. */
static int run_dump(char **args, GError **error)
{
    static char *const no_args[] = {NULL};
    g_auto(Session) s = {0};
    g_autoptr(QcView) disk = NULL;
    int r = open_to_read(&s, args[0], error);
    if (r == 0)
        r = open_view(&s, (char **)no_args, &disk, error);
    if (r < 0)
        return r;
    printf("- %" PRIu64 " \n", qc_view_size(disk));
    r = cat_view(&s, disk, error);
    for (unsigned i = 0; r == 0 && i < qc_image_info(s.image)->n_snapshots; i++)
        r = dump_snapshot(&s, i, error);
    return r;
}

/* Neighbours of one kind are one line, however the engine cut them. */
static int print_map(Session *s, QcView *view, GError **error)
{
    static const char *const kinds[] = {"hole", "zero", "data", "compressed", "bad"};
    uint64_t size = qc_view_size(view), start = 0, at = 0;
    QcExtentKind kind = QC_EXTENT_HOLE;
    while (at < size) {
        QcExtent extent;
        int r = qc_view_map(view, at, size - at, &extent);
        if (r < 0 || extent.length == 0 || extent.length > size - at)
            return fail(error, r < 0 ? r : -EIO, "%s at %" PRIu64 ": cannot be mapped", s->path,
                        at);
        if (at > start && extent.kind != kind) {
            printf("%" PRIu64 " %" PRIu64 " %s\n", start, at - start, kinds[kind]);
            start = at;
        }
        kind = extent.kind;
        at += extent.length;
    }
    if (at > start)
        printf("%" PRIu64 " %" PRIu64 " %s\n", start, at - start, kinds[kind]);
    return 0;
}

static int run_map(char **args, GError **error)
{
    g_auto(Session) s = {0};
    g_autoptr(QcView) view = NULL;
    int r = open_to_read(&s, args[0], error);
    if (r == 0)
        r = open_view(&s, args + 1, &view, error);
    return r == 0 ? print_map(&s, view, error) : r;
}

static int run_list(char **args, GError **error)
{
    g_auto(Session) s = {0};
    int r = open_to_read(&s, args[0], error);
    if (r < 0)
        return r;
    const QcInfo *info = qc_image_info(s.image);
    for (unsigned i = 0; i < info->n_snapshots; i++)
        print_snapshot(&info->snapshots[i]);
    return 0;
}

/* ---- writing ---------------------------------------------------------------------------- */

/* One transaction, and the image opened again for the next. */
static int write_range(Session *s, const uint8_t *buf, size_t len, uint64_t offset, GError **error)
{
    int r = qc_image_write(s->image, s->chain, buf, len, offset, NULL, error);
    return r < 0 ? r : reopen_image(s, error);
}

/* Fill buf from standard input; less than len only at its end. */
static int read_input(uint8_t *buf, size_t len, size_t *ret, GError **error)
{
    *ret = fread(buf, 1, len, stdin);
    return ferror(stdin) ? fail(error, -EIO, "standard input cannot be read") : 0;
}

static int run_write(char **args, GError **error)
{
    g_auto(Session) s = {0};
    g_autofree uint8_t *buf = g_malloc(WRITE_BYTES);
    uint64_t at;
    int r = parse_size(args[1], &at, error);
    if (r == 0)
        r = open_to_change(&s, args[0], error);
    while (r == 0) {
        size_t len;
        r = read_input(buf, WRITE_BYTES, &len, error);
        if (r < 0 || len == 0)
            break;
        r = write_range(&s, buf, len, at, error);
        at += len;
    }
    return r;
}

/* The length of the run of clusters at the start of new that do (or do not) equal old. */
static size_t run_length(const uint8_t *new, const uint8_t *old, size_t len, size_t cluster,
                         bool equal)
{
    size_t at = 0;
    while (at < len) {
        size_t n = MIN(cluster, len - at);
        if ((memcmp(new + at, old + at, n) == 0) != equal)
            break;
        at += n;
    }
    return at;
}

/* Write the clusters of one chunk that differ from what is on the disk. */
static int import_chunk(Session *s, const uint8_t *new, uint8_t *old, size_t len, uint64_t offset,
                        GError **error)
{
    size_t cluster = (size_t)1 << qc_image_info(s->image)->cluster_bits;
    int r = read_locked(s, qc_chain_view(s->chain, 0), old, len, offset, error);
    for (size_t at = 0; r == 0 && at < len;) {
        at += run_length(new + at, old + at, len - at, cluster, true);
        size_t n = run_length(new + at, old + at, len - at, cluster, false);
        if (n > 0)
            r = write_range(s, new + at, n, offset + at, error);
        at += n;
    }
    return r;
}

static int run_import(char **args, GError **error)
{
    g_auto(Session) s = {0};
    g_autofree uint8_t *new = g_malloc(WRITE_BYTES), *old = g_malloc(WRITE_BYTES);
    int r = open_to_change(&s, args[0], error);
    for (uint64_t at = 0; r == 0; at += WRITE_BYTES) {
        size_t len;
        r = read_input(new, WRITE_BYTES, &len, error);
        if (r < 0 || len == 0)
            break;
        if (len > qc_image_info(s.image)->virtual_size - at)
            return fail(error, -EINVAL, "the input is larger than the disk of %s", s.path);
        r = import_chunk(&s, new, old, len, at, error);
        if (len < WRITE_BYTES)
            break;
    }
    return r;
}

/* ---- commands --------------------------------------------------------------------------- */

static int run_take(char **args, GError **error)
{
    g_auto(Session) s = {0};
    int r = open_to_change(&s, args[0], error);
    return r < 0 ? r : qc_snapshot_take(s.image, args[1], g_get_real_time() * 1000, NULL, error);
}

/* The snapshot args[1] of the image args[0]. */
static int open_snapshot(Session *s, char **args, unsigned *ret_index, GError **error)
{
    int r = open_to_change(s, args[0], error);
    return r < 0 ? r : find_snapshot(s, args[1], ret_index, error);
}

static int run_revert(char **args, GError **error)
{
    g_auto(Session) s = {0};
    unsigned index;
    int r = open_snapshot(&s, args, &index, error);
    return r < 0 ? r : qc_snapshot_revert(s.image, index, NULL, error);
}

static int run_delete(char **args, GError **error)
{
    g_auto(Session) s = {0};
    unsigned index;
    int r = open_snapshot(&s, args, &index, error);
    return r < 0 ? r : qc_snapshot_delete(s.image, index, NULL, error);
}

static int run_rename(char **args, GError **error)
{
    g_auto(Session) s = {0};
    unsigned index;
    int r = open_snapshot(&s, args, &index, error);
    return r < 0 ? r : qc_snapshot_rename(s.image, index, args[2], NULL, error);
}

/* ---- create ----------------------------------------------------------------------------- */

static int parse_option(const char *arg, QcCreateOptions *o, GError **error)
{
    const char *value;
    uint64_t cluster;
    if ((value = value_of(arg, "version")))
        o->version = (unsigned)atoi(value);
    else if ((value = value_of(arg, "refcount")))
        o->refcount_bits = (unsigned)atoi(value);
    else if ((value = value_of(arg, "backing")))
        o->backing_file = value;
    else if ((value = value_of(arg, "format")))
        o->backing_format = value;
    else if (strcmp(arg, "extended_l2") == 0)
        o->extended_l2 = true;
    else if (strcmp(arg, "lazy") == 0)
        o->lazy_refcounts = true;
    else if (strcmp(arg, "zstd") == 0)
        o->zstd = true;
    else if ((value = value_of(arg, "cluster"))) {
        int r = parse_size(value, &cluster, error);
        if (r < 0)
            return r;
        if (cluster == 0 || (cluster & (cluster - 1)))
            return fail(error, -EINVAL, "%s is not a power of two", value);
        o->cluster_bits = (unsigned)__builtin_ctzll(cluster);
    } else
        return fail(error, -EINVAL, "unknown option %s", arg);
    return 0;
}

static int create_at(const char *path, const QcCreateOptions *options, GError **error)
{
    g_autoptr(QcFile) file = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail(error, -errno, "%s: %s", path, g_strerror(errno));
    int r = qc_file_new_fd(fd, &file);
    r = r < 0 ? fail(error, r, "%s: no file for an image", path) : qc_create(file, options, error);
    if (r < 0)
        unlink(path);
    return r;
}

static int run_create(char **args, GError **error)
{
    QcCreateOptions options = {0};
    const char *store = g_getenv("STORE");
    g_autofree char *path = store ? g_build_filename(store, args[0], NULL) : g_strdup(args[0]);
    int r = parse_size(args[1], &options.virtual_size, error);
    for (char **arg = args + 2; r == 0 && *arg; arg++)
        r = parse_option(*arg, &options, error);
    return r < 0 ? r : create_at(path, &options, error);
}

/* ---- main ------------------------------------------------------------------------------- */

typedef struct Command {
    const char *name, *usage;
    int min, max; /* arguments */
    int (*run)(char **args, GError **error);
} Command;

static const Command commands[] = {
    {"create",
     "FILE SIZE [version=2|3] [cluster=BYTES] [refcount=BITS] [extended_l2] [lazy] [zstd]"
     " [backing=NAME format=FMT]",
     2, 10, run_create},
    {"write", "FILE OFFSET", 2, 2, run_write},
    {"import", "FILE", 1, 1, run_import},
    {"cat", "FILE [snapshot=NAME | layer=N]", 1, 2, run_cat},
    {"map", "FILE [snapshot=NAME | layer=N]", 1, 2, run_map},
    {"list", "FILE", 1, 1, run_list},
    {"dump", "FILE", 1, 1, run_dump},
    {"take", "FILE NAME", 2, 2, run_take},
    {"revert", "FILE NAME", 2, 2, run_revert},
    {"delete", "FILE NAME", 2, 2, run_delete},
    {"rename", "FILE OLD NEW", 3, 3, run_rename},
};

static const Command *find_command(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0 && argc - 2 >= commands[i].min &&
            argc - 2 <= commands[i].max)
            return &commands[i];
    return NULL;
}

static int usage(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        fprintf(stderr, "qctool %s %s\n", commands[i].name, commands[i].usage);
    return 2;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    const Command *command = find_command(argc, argv);
    if (!command)
        return usage();
    signal(SIGXFSZ, SIG_IGN); /* the write that is too long says so as well */
    int r = command->run(argv + 2, &error);
    if (r == 0 && fflush(stdout) != 0)
        r = fail(&error, -errno, "standard output: %s", g_strerror(errno));
    if (r < 0)
        fprintf(stderr, "%s: %s\n", strerrorname_np(-r), error ? error->message : g_strerror(-r));
    return r < 0;
}
