/*
 * keeper.c - see keeper.h.
 *
 * Keeper and worker talk over a socket that keeps messages whole: a Request one way, a Reply the
 * other, where the kind has one. Keeper.lock makes a request and its reply one exchange; a reply
 * has the number of its request, as one that could not be received is still there at the next
 * exchange. Both ends are the same program, so the structs themselves are sent. The keeper takes
 * nothing in them for granted: a worker that was taken over sends what it likes.
 *
 * A worker that is told to end, by the keeper or another process, or that cannot serve any more,
 * stops serving, tells the keeper so, and finishes its commands. Where it cannot end, every program
 * that comes to the tree would wait with it; so after a while the keeper unmounts the tree, and
 * leaves the worker alone. A worker that hangs may not even say that it ends: so the keeper's
 * patience begins with the signal that it hands on, if that comes first.
 *
 * In whatever way the worker ends, its end of the socket closes, and that ends the keeper's loop.
 * When the keeper is killed, the worker gets SIGTERM from the kernel, and finishes.
 */
#include "keeper.h"

#include "census.h"
#include "holder.h"
#include "log.h"
#include "passthrough.h"
#include "signals.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum {
    REPLY_TEXT = 1024,
    MAX_PASSED = 4096,  /* files that the kernel reads by itself, at most */
    PATIENCE_MS = 5000, /* with a worker that was told to end, until the tree is unmounted */
    KILLED = 128, /* plus the signal, as a shell has it: exit status of a worker that was killed */
};

typedef enum RequestKind {
    REQUEST_HOLDER = 1, /* of dev, ino -> text, "" for none */
    REQUEST_DEVICE,     /* path text, write -> a descriptor, or err */
    REQUEST_LOG,        /* priority, text; no reply */
    REQUEST_PASS,       /* path text, dev, ino -> a number in err, or err */
    REQUEST_PASS_END,   /* number; no reply */
    REQUEST_ENDING,     /* no reply */
    REQUEST_USER,       /* of device dev, write, since -> err, and text for -EBUSY */
} RequestKind;

typedef struct Request {
    uint32_t kind, write;
    int32_t priority, number;
    uint64_t exchange;
    uint64_t dev, ino;
    int64_t since;
    char text[PATH_MAX];
} Request;

typedef struct Reply {
    uint64_t exchange;
    int32_t err;
    char text[REPLY_TEXT];
} Reply;

struct Keeper {
    pid_t pid;
    int socket;
    GMutex lock;
    uint64_t exchanges; /* lock */
};

/* ---- messages ---------------------------------------------------------------------------- */

static int send_message(int fd, const void *data, size_t len, int passed, int flags)
{
    struct iovec part = {(void *)data, len};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (passed >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &passed, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/*
 * A whole message of exactly len bytes; anything else is -EPROTO, and -EPIPE, or -ECONNRESET, if
 * the other end is gone. ret_passed: -1 for none; NULL: descriptors are not taken, the kernel drops
 * them.
 */
static int receive_message(int fd, void *data, size_t len, int *ret_passed)
{
    struct iovec part = {data, len};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    if (ret_passed) { /* room for one descriptor, not for the padding behind it */
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_LEN(sizeof(int));
    }

    do
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);

    struct cmsghdr *header = n < 0 || !ret_passed ? NULL : CMSG_FIRSTHDR(&message);
    if (ret_passed)
        *ret_passed = -1;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(ret_passed, CMSG_DATA(header), sizeof(int));
    if (n < 0)
        return -errno;
    return n == (ssize_t)len ? 0 : n == 0 ? -EPIPE : -EPROTO;
}

/* ---- the worker's side ------------------------------------------------------------------- */

/* The reply to an exchange; those to earlier ones come first, and nobody wants them any more. */
static int receive_reply(const Keeper *keeper, uint64_t exchange, Reply *reply, int *ret_passed)
{
    for (;;) {
        int r = receive_message(keeper->socket, reply, sizeof(*reply), ret_passed);

        if (r == 0 && reply->exchange == exchange)
            return 0;
        if (ret_passed && *ret_passed >= 0)
            close(*ret_passed);
        if (r < 0)
            return r;
    }
}

static int ask(Keeper *keeper, Request *request, Reply *reply, int *ret_passed)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&keeper->lock);

    request->exchange = ++keeper->exchanges;
    int r = send_message(keeper->socket, request, sizeof(*request), -1, 0);
    return r < 0 ? r : receive_reply(keeper, request->exchange, reply, ret_passed);
}

char *keeper_find_holder(Keeper *keeper, const QcFileStat *file)
{
    Request request = {.kind = REQUEST_HOLDER, .dev = file->dev, .ino = file->ino};
    Reply reply;

    if (!keeper)
        return holder_find(file, getpid());
    if (ask(keeper, &request, &reply, NULL) < 0 || reply.text[0] == '\0')
        return NULL;
    return g_strndup(reply.text, sizeof(reply.text));
}

int keeper_find_user(Keeper *keeper, uint64_t device, bool write, gint64 since, char **ret)
{
    Request request = {.kind = REQUEST_USER, .write = write, .since = since, .dev = device};
    Reply reply;
    int r = ask(keeper, &request, &reply, NULL);

    if (r < 0)
        return r;
    *ret = reply.err == -EBUSY ? g_strndup(reply.text, sizeof(reply.text)) : NULL;
    return reply.err;
}

int keeper_open_device(void *data, const char *path, bool write)
{
    Request request = {.kind = REQUEST_DEVICE, .write = write};
    Reply reply;
    int passed;

    if (g_strlcpy(request.text, path, sizeof(request.text)) >= sizeof(request.text))
        return -ENAMETOOLONG;
    int r = ask(data, &request, &reply, &passed);
    if (r < 0)
        return r;
    if (reply.err < 0)
        return reply.err;
    return passed < 0 ? -EMFILE : passed; /* the kernel drops it where there is no room */
}

int keeper_begin_passthrough(Keeper *keeper, const char *path, const QcFileStat *file)
{
    Request request = {.kind = REQUEST_PASS, .dev = file->dev, .ino = file->ino};
    Reply reply;

    if (g_strlcpy(request.text, path, sizeof(request.text)) >= sizeof(request.text))
        return -ENAMETOOLONG;
    int r = ask(keeper, &request, &reply, NULL);
    return r < 0 ? r : reply.err;
}

void keeper_end_passthrough(Keeper *keeper, int number)
{
    Request request = {.kind = REQUEST_PASS_END, .number = number};

    send_message(keeper->socket, &request, sizeof(request), -1, 0);
}

void keeper_tell_ending(Keeper *keeper)
{
    Request request = {.kind = REQUEST_ENDING};

    send_message(keeper->socket, &request, sizeof(request), -1, 0);
}

void keeper_log(void *data, int priority, const char *line)
{
    Keeper *keeper = data;
    Request request = {.kind = REQUEST_LOG, .priority = priority};

    g_strlcpy(request.text, line, sizeof(request.text));
    send_message(keeper->socket, &request, sizeof(request), -1, MSG_DONTWAIT);
}

bool keeper_is_gone(const Keeper *keeper)
{
    return getppid() != keeper->pid;
}

static Keeper *keeper_new(pid_t pid, int socket)
{
    Keeper *keeper = g_new0(Keeper, 1);

    keeper->pid = pid;
    keeper->socket = socket;
    g_mutex_init(&keeper->lock);
    return keeper;
}

/* ---- the keeper's side ------------------------------------------------------------------- */

typedef struct Watch {
    QcGate *gate;
    bool may_write;
    pid_t worker;
    int socket, signals;
    int device; /* -1: unmounted */
    unsigned n_passed;
    Census *census;
    KeeperUnmount unmount;
    void *data;
    gint64 deadline; /* of the worker's end, on the monotonic clock; 0: none */
} Watch;

/* A descriptor of a block device of the store, opened as the gate opens it. */
static int open_device(const Watch *watch, const Request *request, QcFile **ret)
{
    g_autoptr(QcFile) file = NULL;
    QcFileStat stat;

    if (request->write && !watch->may_write)
        return -EROFS;
    if (request->write && request->text[0] == '/') /* backing=any: for reading only */
        return -EACCES;
    int r = qc_gate_open(watch->gate, request->text, request->write, &file, NULL);
    if (r == 0)
        r = qc_file_stat(file, &stat);
    if (r < 0)
        return r;
    if (!S_ISBLK(stat.mode))
        return -EACCES;
    *ret = g_steal_pointer(&file);
    return 0;
}

static int pass(Watch *watch, const Request *request)
{
    const QcFileStat file = {.dev = request->dev, .ino = request->ino};

    if (watch->n_passed >= MAX_PASSED)
        return -EMFILE;
    int number = passthrough_begin(watch->device, watch->gate, request->text, &file);
    watch->n_passed += number > 0;
    return number;
}

/*
 * The worker waits for a reply, so there is room for it: one that takes no replies is not waited
 * for. A reply whose descriptor cannot be sent says why instead.
 */
static int send_reply(const Watch *watch, Reply *reply, QcFile *device)
{
    int fd = device ? qc_file_fd(device) : -1;
    int r = send_message(watch->socket, reply, sizeof(*reply), fd, MSG_DONTWAIT);

    if (r < 0 && device) {
        reply->err = r;
        r = send_message(watch->socket, reply, sizeof(*reply), -1, MSG_DONTWAIT);
    }
    return r;
}

/* The worker is to end, or does so: from now on it is not waited for without end. */
static void set_deadline(Watch *watch)
{
    if (!watch->deadline && watch->device >= 0)
        watch->deadline = g_get_monotonic_time() + PATIENCE_MS * G_GINT64_CONSTANT(1000);
}

/* -errno: the worker cannot be answered. */
static int answer(Watch *watch, Request *request)
{
    g_autoptr(QcFile) device = NULL;
    g_autofree char *holder = NULL;
    Reply reply = {.exchange = request->exchange};

    request->text[sizeof(request->text) - 1] = '\0';
    switch (request->kind) {
    case REQUEST_LOG:
        log_line(CLAMP(request->priority, LOG_ERR, LOG_DEBUG), request->text);
        return 0;
    case REQUEST_PASS_END:
        watch->n_passed -= passthrough_end(watch->device, request->number) == 0;
        return 0;
    case REQUEST_ENDING:
        set_deadline(watch);
        return 0;
    case REQUEST_HOLDER:
        holder =
            holder_find(&(QcFileStat){.dev = request->dev, .ino = request->ino}, watch->worker);
        g_strlcpy(reply.text, holder ? holder : "", sizeof(reply.text));
        break;
    case REQUEST_USER:
        reply.err =
            census_find(watch->census, request->dev, request->write, request->since, &holder);
        g_strlcpy(reply.text, holder ? holder : "", sizeof(reply.text));
        break;
    case REQUEST_DEVICE:
        reply.err = open_device(watch, request, &device);
        break;
    case REQUEST_PASS:
        reply.err = pass(watch, request);
        break;
    default:
        reply.err = -EINVAL;
    }
    return send_reply(watch, &reply, device);
}

static void pass_signal_on(Watch *watch)
{
    struct signalfd_siginfo info;

    if (read(watch->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    kill(watch->worker, (int)info.ssi_signo);
    set_deadline(watch);
    if (log_takes_lines())
        log_info("told to end by signal %u (%s), sent by process %u of uid %u", info.ssi_signo,
                 g_strsignal((int)info.ssi_signo), info.ssi_pid, info.ssi_uid);
}

/* Milliseconds to the deadline; -1: there is none. */
static int time_left(const Watch *watch)
{
    gint64 left = (watch->deadline - g_get_monotonic_time()) / 1000;

    return watch->deadline ? (int)CLAMP(left, 0, PATIENCE_MS) : -1;
}

/*
 * The worker answers no request any more, but may be in a command: so it is left alone, and the
 * tree is unmounted.
 */
static void unmount_early(Watch *watch)
{
    watch->deadline = 0;
    watch->device = -1;
    if (watch->unmount(watch->data))
        log_error(
            "the process that serves the tree (%d) was told to end, and has not yet; unmounted",
            (int)watch->worker);
}

/* False: the worker is gone, or is not to be served any more. */
static bool serve_one(Watch *watch)
{
    Request request;
    int r = receive_message(watch->socket, &request, sizeof(request), NULL);

    if (r == 0)
        r = answer(watch, &request);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        log_error("the process that serves the tree is killed, as it cannot be %s: %s",
                  r == -EPROTO ? "understood" : "answered", g_strerror(-r));
    return r == 0;
}

/* Serve the worker until it is gone. Returns its exit status. */
static int watch_over(Watch *watch)
{
    struct pollfd polled[] = {{watch->signals, POLLIN, 0}, {watch->socket, POLLIN, 0}};
    bool alive = true;
    int status;

    while (alive) {
        int n = poll(polled, G_N_ELEMENTS(polled), time_left(watch));
        if (watch->deadline && time_left(watch) == 0)
            unmount_early(watch);
        if (n <= 0)
            continue;
        if (polled[0].revents)
            pass_signal_on(watch);
        if (polled[1].revents)
            alive = serve_one(watch);
    }
    kill(watch->worker, SIGKILL); /* it ends already, or does not keep to the protocol */
    while (waitpid(watch->worker, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    log_error("the process that serves the tree was killed by signal %d; unmounting",
              WTERMSIG(status));
    return KILLED + WTERMSIG(status);
}

/* ---- the split --------------------------------------------------------------------------- */

static void become_worker(pid_t keeper)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != keeper) /* it died before we asked */
        raise(SIGTERM);
}

/* What the two talk over, and where the keeper gets signals: without it, none would end it. */
static int open_split(int ret_ends[2], int *ret_signals)
{
    sigset_t handed_on;

    signals_that_end(&handed_on);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_ends) < 0)
        return -errno;
    *ret_signals = signalfd(-1, &handed_on, SFD_CLOEXEC | SFD_NONBLOCK);
    if (*ret_signals >= 0)
        return 0;
    int r = -errno;
    close(ret_ends[0]);
    close(ret_ends[1]);
    return r;
}

int keeper_split(QcGate *gate, bool may_write, int device, KeeperUnmount unmount, void *data,
                 Keeper **ret_keeper, int *ret_status)
{
    int ends[2], signals = -1;
    pid_t keeper = getpid();
    int r = open_split(ends, &signals);

    if (r < 0)
        return r;
    pid_t worker = fork();
    if (worker == 0) {
        close(ends[0]);
        close(signals);
        become_worker(keeper);
        *ret_keeper = keeper_new(keeper, ends[1]);
        return 0;
    }
    r = worker < 0 ? -errno : 0;
    close(ends[1]);
    if (r == 0) {
        Watch watch = {.gate = gate,
                       .may_write = may_write,
                       .worker = worker,
                       .socket = ends[0],
                       .signals = signals,
                       .device = device,
                       .census = census_new(worker),
                       .unmount = unmount,
                       .data = data};
        *ret_keeper = NULL;
        *ret_status = watch_over(&watch);
        census_free(watch.census);
    }
    close(ends[0]);
    close(signals);
    return r;
}
