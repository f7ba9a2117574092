/*
 * kernel.c - see kernel.h.
 *
 * libfuse is handed requests as if it had read them, and its answers are taken where it would write
 * them. Kernel.lock protects the table of what is not answered yet, and the calls in it. A request
 * that is told, not called, is never in the table: an answer to it is one too many. (But libfuse
 * answers an INTERRUPT that comes too late with EAGAIN, which the kernel takes.)
 */
#include "kernel.h"

#include "fuzz.h"
#include "ops.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
    PATIENCE_S = 60,   /* for an answer: none comes later */
    ERROR_LIMIT = 512, /* see fs/request/answer.h */
    INTERRUPT_BIT = 1, /* of a unique; those of requests are even */
    GENERAL = 1 << 16, /* bytes that answers of any length may have */
};

/* What libfuse calls user data is the address of an Fs *. */
struct Kernel {
    Fs *fs;
    struct fuse_session *session;
    GThreadPool *threads; /* NULL: none */
    uint64_t next;        /* unique */
    unsigned n_threads;   /* of the process, without this mount */
    GMutex lock;
    GCond answered;
    GHashTable *pending; /* unique -> Call; lock */
};

/* ---- answers ------------------------------------------------------------------------------- */

/* How long the answer has to be; GENERAL: up to what was asked for. */
static size_t right_length(const Call *call)
{
    switch (call->opcode) {
    case FUSE_INIT:
        return sizeof(struct fuse_init_out);
    case FUSE_LOOKUP:
        return sizeof(struct fuse_entry_out);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        return sizeof(struct fuse_attr_out);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return sizeof(struct fuse_open_out);
    case FUSE_WRITE:
        return sizeof(struct fuse_write_out);
    case FUSE_STATFS:
        return sizeof(struct fuse_statfs_out);
    case FUSE_LSEEK:
        return sizeof(struct fuse_lseek_out);
    case FUSE_LISTXATTR:
        return call->room ? GENERAL : sizeof(struct fuse_getxattr_out);
    case FUSE_READ:
    case FUSE_READDIR:
        return GENERAL;
    default:
        return 0;
    }
}

/* Of requests that the daemon has an answer to, ENOSYS would be the last the kernel sends. */
static bool is_served(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_GETATTR:
    case FUSE_SETATTR:
    case FUSE_OPEN:
    case FUSE_OPENDIR:
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_WRITE:
    case FUSE_STATFS:
    case FUSE_LSEEK:
    case FUSE_LISTXATTR:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNC:
        return true;
    default:
        return false;
    }
}

static void check_answer(const Call *call, const struct fuse_out_header *out, size_t len)
{
    size_t body = len - sizeof(*out), right = right_length(call);

    fuzz_require(out->len == len, "of %u: %u of %zu", call->opcode, out->len, len);
    fuzz_require(out->error <= 0 && out->error > -ERROR_LIMIT, "%d", out->error);
    fuzz_require(out->error != -ENOSYS || !is_served(call->opcode), "of %u", call->opcode);
    if (out->error)
        fuzz_require(body == 0, "of %u: an error and %zu bytes", call->opcode, body);
    else if (right == GENERAL)
        fuzz_require(body <= call->room, "of %u: %zu, not %zu", call->opcode, body, call->room);
    else
        fuzz_require(body == right, "of %u: %zu, not %zu", call->opcode, body, right);
}

static void take(Call *call, const struct iovec *iov, int n)
{
    const struct fuse_out_header *out = iov[0].iov_base;

    call->error = out->error;
    for (int i = 1; i < n; i++)
        g_byte_array_append(call->answer, iov[i].iov_base, (guint)iov[i].iov_len);
    check_answer(call, out, sizeof(*out) + call->answer->len);
}

static ssize_t on_answer(int fd, struct iovec *iov, int n, void *userdata)
{
    Kernel *kernel = userdata;
    const struct fuse_out_header *out = iov[0].iov_base;
    uint64_t unique = out->unique;
    ssize_t len = 0;

    (void)fd;
    fuzz_require(iov[0].iov_len == sizeof(*out));
    for (int i = 0; i < n; i++)
        len += (ssize_t)iov[i].iov_len;
    if (unique & INTERRUPT_BIT) {
        fuzz_require(out->error == -EAGAIN && len == sizeof(*out), "%d", out->error);
        return len;
    }
    g_mutex_lock(&kernel->lock);
    Call *call = g_hash_table_lookup(kernel->pending, &unique);
    fuzz_require(call, "an answer to %" PRIu64 ", which has one or needs none", unique);
    g_hash_table_remove(kernel->pending, &unique);
    bool lost = call->lost;
    take(call, iov, n);
    call->answered = true;
    g_cond_broadcast(&kernel->answered);
    g_mutex_unlock(&kernel->lock);
    if (lost)
        errno = ENOENT;
    return lost ? -1 : len;
}

static ssize_t on_read(int fd, void *buf, size_t len, void *userdata)
{
    (void)fd, (void)buf, (void)len, (void)userdata;
    errno = ENODEV; /* nobody reads: see send() */
    return -1;
}

/* ---- requests ------------------------------------------------------------------------------ */

static void handle(gpointer data, gpointer user_data)
{
    g_autoptr(GByteArray) bytes = data;
    const Kernel *kernel = user_data;
    struct fuse_buf buf = {.mem = bytes->data, .size = bytes->len};

    fuse_session_process_buf(kernel->session, &buf);
}

/* Into memory of its own, as it is handled while the next is made. */
static void send_request(Kernel *kernel, struct fuse_in_header *in, const void *args, size_t len)
{
    GByteArray *bytes = g_byte_array_new();

    in->len = (uint32_t)(sizeof(*in) + len);
    g_byte_array_append(bytes, (const guint8 *)in, sizeof(*in));
    g_byte_array_append(bytes, args, (guint)len);
    if (kernel->threads)
        g_thread_pool_push(kernel->threads, bytes, NULL);
    else
        handle(bytes, kernel);
}

Call *kernel_call(Kernel *kernel, const Asker *asker, uint32_t opcode, uint64_t ino,
                  const void *args, size_t len, size_t room, bool lost)
{
    Call *call = g_new0(Call, 1);
    struct fuse_in_header in = {
        .opcode = opcode, .nodeid = ino, .uid = asker->uid, .gid = asker->uid, .pid = asker->pid};

    kernel->next += 2;
    *call = (Call){.unique = kernel->next,
                   .ino = ino,
                   .opcode = opcode,
                   .room = room,
                   .lost = lost,
                   .answer = g_byte_array_new()};
    in.unique = call->unique;
    g_mutex_lock(&kernel->lock);
    g_hash_table_insert(kernel->pending, &call->unique, call);
    g_mutex_unlock(&kernel->lock);
    send_request(kernel, &in, args, len);
    return call;
}

void kernel_tell(Kernel *kernel, uint32_t opcode, uint64_t ino, uint64_t unique, const void *args,
                 size_t len)
{
    struct fuse_in_header in = {.opcode = opcode, .nodeid = ino};

    kernel->next += 2;
    in.unique = unique ? unique | INTERRUPT_BIT : kernel->next;
    send_request(kernel, &in, args, len);
}

void kernel_wait(Kernel *kernel, Call *call)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_S * G_TIME_SPAN_SECOND;

    g_mutex_lock(&kernel->lock);
    while (!call->answered)
        fuzz_require(g_cond_wait_until(&kernel->answered, &kernel->lock, end), "of %u",
                     call->opcode);
    g_mutex_unlock(&kernel->lock);
}

void kernel_end(Kernel *kernel, Call *call)
{
    kernel_wait(kernel, call);
    g_byte_array_unref(call->answer);
    g_free(call);
}

/* ---- the mount ----------------------------------------------------------------------------- */

Nodes *kernel_nodes(Kernel *kernel)
{
    return kernel->fs->nodes;
}

static unsigned count_threads(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static gpointer end_at_once(gpointer data)
{
    return data;
}

/* Of the process by itself, with those that a sanitizer starts together with the first thread. */
static unsigned count_other_threads(void)
{
    g_thread_pool_set_max_unused_threads(0);
    g_thread_join(g_thread_new("first", end_at_once, NULL));
    return count_threads();
}

static void attach(Kernel *kernel)
{
    static const struct fuse_custom_io io = {.read = on_read, .writev = on_answer};
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

    fuse_opt_add_arg(&args, "kernel");
    kernel->session = fuse_session_new(&args, &ops_table, sizeof(ops_table), &kernel->fs);
    fuse_opt_free_args(&args);
    fuzz_require(kernel->session);
    /* The session closes what it has for /dev/fuse. */
    fuzz_require(fuse_session_custom_io(kernel->session, &io, eventfd(0, EFD_CLOEXEC)) == 0);
}

Kernel *kernel_new(QcGate *gate, const Options *options, unsigned threads)
{
    Kernel *kernel = g_new0(Kernel, 1);

    g_mutex_init(&kernel->lock);
    g_cond_init(&kernel->answered);
    kernel->pending = g_hash_table_new(g_int64_hash, g_int64_equal);
    kernel->n_threads = count_other_threads();
    fuzz_require(fs_new(gate, NULL, -1, -1, options, &kernel->fs) == 0);
    attach(kernel);
    if (threads > 0)
        kernel->threads = g_thread_pool_new(handle, kernel, (gint)threads, TRUE, NULL);
    return kernel;
}

void kernel_join(Kernel *kernel)
{
    if (kernel->threads)
        g_thread_pool_free(kernel->threads, FALSE, TRUE);
    kernel->threads = NULL;
}

void kernel_free(Kernel *kernel)
{
    kernel_join(kernel);
    atomic_store(&kernel->fs->ending, true);
    serial_drain(kernel->fs->serial);
    fuzz_require(g_hash_table_size(kernel->pending) == 0);
    fs_free(kernel->fs);
    fuse_session_destroy(kernel->session);
    /* Pools do not join their threads; what one frees at its very end seems leaked until then. */
    while (count_threads() > kernel->n_threads)
        g_usleep(100);
    g_hash_table_unref(kernel->pending);
    g_cond_clear(&kernel->answered);
    g_mutex_clear(&kernel->lock);
    g_free(kernel);
}
