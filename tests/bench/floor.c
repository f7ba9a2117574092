/*
 * floor - serves one raw file as one file, and does nothing else: what FUSE itself costs.
 *
 *   floor [--direct] [--read] FILE MOUNTPOINT
 *
 * MOUNTPOINT is a file, and FILE appears there. With --direct each read comes here; otherwise the
 * kernel caches pages and keeps them from one open to the next. Answers go out straight from a
 * mapping of FILE that is touched in full before the first one. With --read they are read from FILE
 * first, as by every server that has to know what it says before it says it. It stays in the
 * foreground, until a signal or until it is unmounted. scripts/bench raises the kernel's
 * read-ahead.
 */
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MAX_REQUEST = 1 << 20,
    MAX_BACKGROUND = 64,
    MAX_THREADS = 16,
};

typedef struct Floor {
    char *data;
    size_t size;
    int fd;
    bool direct, read;
} Floor;

static const double forever = 86400;

static void floor_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ);
    conn->max_write = MAX_REQUEST;
    conn->max_background = MAX_BACKGROUND;
}

static void floor_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const Floor *file = fuse_req_userdata(req);
    struct stat attr = {
        .st_ino = ino, .st_mode = S_IFREG | 0444, .st_nlink = 1, .st_size = (off_t)file->size};

    (void)fi;
    fuse_reply_attr(req, &attr, forever);
}

static void floor_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const Floor *file = fuse_req_userdata(req);

    (void)ino;
    fi->direct_io = file->direct;
    fi->keep_cache = !file->direct;
    fuse_reply_open(req, fi);
}

/* Each thread has its buffer for good. */
static void reply_read(fuse_req_t req, const Floor *file, size_t size, off_t off)
{
    static _Thread_local char buffer[MAX_REQUEST];
    ssize_t n = pread(file->fd, buffer, size < MAX_REQUEST ? size : MAX_REQUEST, off);

    if (n < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_buf(req, buffer, (size_t)n);
}

static void floor_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    const Floor *file = fuse_req_userdata(req);
    size_t start = (size_t)off < file->size ? (size_t)off : file->size;
    size_t left = file->size - start;
    struct iovec part = {file->data + start, size < left ? size : left};

    (void)ino;
    (void)fi;
    if (file->read)
        reply_read(req, file, size, off);
    else
        fuse_reply_iov(req, &part, 1);
}

static const struct fuse_lowlevel_ops ops = {
    .init = floor_init,
    .getattr = floor_getattr,
    .open = floor_open,
    .read = floor_read,
};

static int map_file(Floor *file, const char *path)
{
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = file->fd < 0 ? -1 : lseek(file->fd, 0, SEEK_END);

    if (end < 0)
        return -errno;
    file->size = (size_t)end;
    file->data = mmap(NULL, file->size, PROT_READ, MAP_SHARED | MAP_POPULATE, file->fd, 0);
    return file->data == MAP_FAILED ? -errno : 0;
}

static int serve(struct fuse_session *session)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();

    fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
    fuse_loop_cfg_set_idle_threads(config, MAX_THREADS);
    int r = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int mount_and_serve(Floor *file, const char *mountpoint)
{
    char *argv[] = {"floor", "-ofsname=floor,subtype=floor", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(2, argv);
    struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), file);
    int status = EXIT_FAILURE;

    if (session && fuse_session_mount(session, mountpoint) == 0) {
        if (fuse_set_signal_handlers(session) == 0)
            status = serve(session);
        fuse_session_unmount(session);
    }
    if (session)
        fuse_session_destroy(session);
    fuse_opt_free_args(&args);
    return status;
}

int main(int argc, char **argv)
{
    Floor file = {0};
    int first = 1, r;

    for (; first < argc && argv[first][0] == '-'; first++) {
        file.direct |= strcmp(argv[first], "--direct") == 0;
        file.read |= strcmp(argv[first], "--read") == 0;
    }
    if (argc - first != 2 || first - 1 != file.direct + file.read) {
        fprintf(stderr, "usage: floor [--direct] [--read] FILE MOUNTPOINT\n");
        return 2;
    }
    r = map_file(&file, argv[first]);
    if (r < 0) {
        fprintf(stderr, "floor: %s: %s\n", argv[first], strerror(-r));
        return EXIT_FAILURE;
    }
    return mount_and_serve(&file, argv[first + 1]);
}
