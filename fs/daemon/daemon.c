/*
 * The order matters: what can go wrong is tried while somebody still reads standard error, and the
 * process that was called waits until the tree is there;
 * the process that serves is confined when all is opened that it could not open later, and
 * before it has threads; commands that run at the end are finished before the session, which
 * they answer to, goes away; and the keeper, which is not confined, unmounts.
 */
#include "daemon.h"

#include "fs.h"
#include "log.h"
#include "memory.h"
#include "mountpoint.h"
#include "mounts.h"
#include "ops.h"
#include "sandbox.h"
#include "signals.h"
#include "tune.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MIN_THREADS = 16,
};

typedef struct Mounted {
    struct fuse_session *session;
    const char *mountpoint;
    dev_t device; /* st_dev of the tree; 0: not known */
} Mounted;

static void add_option(GString *list, const char *key, const char *value)
{
    if (list->len)
        g_string_append_c(list, ',');
    g_string_append(list, key);
    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            g_string_append_c(list, '\\');
        g_string_append_c(list, *value);
    }
}

/* Build libfuse's arguments. */
static void fill_args(struct fuse_args *args, const Options *options, const char *store)
{
    g_autoptr(GString) list = g_string_new(NULL);

    add_option(list, "default_permissions", "");
    if (!options->has_fsname)
        add_option(list, "fsname=", store);
    if (!options->has_subtype)
        add_option(list, "subtype=snaptree", "");
    for (guint i = 0; i < options->fuse->len; i++)
        add_option(list, "", options->fuse->pdata[i]);

    fuse_opt_add_arg(args, "snaptree");
    fuse_opt_add_arg(args, "-o");
    fuse_opt_add_arg(args, list->str);
    if (options->debug)
        fuse_opt_add_arg(args, "-d");
}

/* Serve requests until the tree is unmounted. */
static int loop(struct fuse_session *session, const Options *options)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    unsigned threads = options->max_threads ? options->max_threads
                                            : MAX(MIN_THREADS, 2 * g_get_num_processors() + 8);

    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_loop_cfg_set_idle_threads(config, threads);
    fuse_loop_cfg_set_clone_fd(config, options->clone_fd);
    int r = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void say_why_no_ring(int r)
{
    log_info("no requests over io_uring: %s",
             r == -EOPNOTSUPP
                 ? "the kernel has not, or /sys/module/fuse/parameters/enable_uring is off"
                 : g_strerror(-r));
}

/* Have requests come through what there is. Frees a ring that is of no use. */
static void open_channel(struct fuse_session *session, Fs *fs, Ring *ring, const Options *options)
{
    int r = options->clone_fd ? -EINVAL : channel_attach(session);

    if (r < 0 && !options->clone_fd)
        log_error("no memory to fetch requests in our own way; they are fetched in libfuse's");
    if (r == 0 && ring)
        r = ring_start(ring, session);
    if (r < 0 && ring)
        say_why_no_ring(r);
    if (r == 0)
        fs->ring = ring;
    else
        ring_free(ring);
    if (fs->ring)
        greeting_want(fs->greeting, GREETING_RINGS);
    if (geteuid() == 0 && options->backing != QC_BACKING_ANY) /* the kernel lets nobody else */
        greeting_want(fs->greeting, GREETING_PASSTHROUGH);
}

/* Rings as wanted, and as the kernel has them; or NULL. */
static Ring *make_ring(struct fuse_session *session, const Options *options)
{
    Ring *ring = NULL;

    if (options->io_uring && options->clone_fd) {
        log_info("no requests over io_uring: clone_fd wants them otherwise");
    } else if (options->io_uring) {
        int r = ring_new(fuse_session_fd(session), &ring);
        if (r < 0)
            say_why_no_ring(r);
    }
    return ring;
}

/* Serve the tree in this process. keeper: NULL when there is none; so ring, which it frees. */
static int serve(struct fuse_session *session, Fs **fs, QcGate *gate, Keeper *keeper, Ring *ring,
                 int read_ahead, const Options *options)
{
    int status = EXIT_FAILURE;

    tune_file_table(qc_gate_dirfd(gate));
    *fs = fs_new(gate, keeper, fuse_session_fd(session), read_ahead, options);
    if (!*fs) {
        log_error("no memory for the cache");
        ring_free(ring);
        return status;
    }
    open_channel(session, *fs, ring, options);
    if (fuse_set_signal_handlers(session) == 0) {
        signals_hold(false);
        status = loop(session, options);
        signals_hold(true); /* a second one has nothing to add */
        atomic_store(&(*fs)->ending, true);
        if ((*fs)->ring && ring_has_failed((*fs)->ring))
            status = EXIT_FAILURE;
        if ((*fs)->ring)
            ring_pause((*fs)->ring);
        serial_drain((*fs)->serial);
        fuse_remove_signal_handlers(session);
    }
    ring_free((*fs)->ring);
    fs_free(*fs);
    return status;
}

static void confine(QcGate *gate, Keeper *keeper, bool has_ring, const Options *options)
{
    SandboxPolicy policy = {
        .store = qc_gate_dirfd(gate),
        .may_write = !options->read_only,
        .read_anywhere = options->backing == QC_BACKING_ANY,
        .fuse_device = options->clone_fd,
        .io_uring = has_ring,
    };

    if (!options->foreground)
        log_to_sink(keeper_log, keeper);
    qc_gate_set_device_opener(gate, keeper_open_device, keeper);
    g_autofree char *in_force = sandbox_enter(&policy);
    log_info("confined: %s", in_force);
}

/* Whether the kernel has given the tree up already; then libfuse unmounts nothing by its path. */
static bool is_given_up(struct fuse_session *session)
{
    struct pollfd device = {.fd = fuse_session_fd(session)};

    return poll(&device, 1, 0) == 1 && device.revents & POLLERR;
}

/* A KeeperUnmount; data is the Mounted. Not what somebody else has mounted at the same place. */
static void take_away(void *data)
{
    Mounted *mounted = data;

    if (is_given_up(mounted->session) ||
        mountpoint_may_unmount(mounted->mountpoint, mounted->device))
        fuse_session_unmount(mounted->session);
}

/* Serve it in a confined process, and wait for that. */
static int serve_confined(Mounted *mounted, Fs **fs, QcGate *gate, const Options *options)
{
    struct fuse_session *session = mounted->session;
    Keeper *keeper;
    int status, r = keeper_split(gate, !options->read_only, fuse_session_fd(session), take_away,
                                 mounted, &keeper, &status);

    if (r < 0) {
        log_error("cannot start the process that serves: %s", g_strerror(-r));
        return EXIT_FAILURE;
    }
    if (!keeper)
        return status;

    int read_ahead = tune_open_read_ahead(mounted->device);
    Ring *ring = make_ring(session, options);
    confine(gate, keeper, ring != NULL, options);
    exit(serve(session, fs, gate, keeper, ring, read_ahead, options));
}

/*
 * In the process that was called: wait until the tree is served. Its exit status. Only the daemon
 * may have /dev/fuse open: when it ends, the kernel gives up on what nobody has answered.
 */
static int wait_for_tree(const Mounted *mounted)
{
    struct stat st;

    close(fuse_session_fd(mounted->session));
    signals_hold(false);
    if (stat(mounted->mountpoint, &st) == 0 && (!mounted->device || st.st_dev == mounted->device))
        return EXIT_SUCCESS;
    log_error("%s could not be served; the system's log says why", mounted->mountpoint);
    return EXIT_FAILURE;
}

/* Go on in a process of its own. */
static int become_daemon(const Mounted *mounted)
{
    pid_t daemon = fork();

    if (daemon < 0) {
        log_error("cannot become a daemon: %s", g_strerror(errno));
        return -errno;
    }
    if (daemon > 0)
        _exit(wait_for_tree(mounted));
    setsid();
    log_to_syslog();

    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (chdir("/") < 0 || null < 0) {
        log_error("cannot become a daemon: %s", g_strerror(errno));
        return -errno;
    }
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    close(null);
    return 0;
}

/* The device number of the tree; 0: not known. It cannot be asked itself before it is served. */
static dev_t device_of(const char *mountpoint)
{
    g_auto(Mount) mount = {0};

    return mounts_find(mountpoint, &mount) == 0 ? mount.device : 0;
}

static int serve_as_daemon(Mounted *mounted, Fs **fs, QcGate *gate, const Options *options)
{
    qc_gate_set_own_device(gate, mounted->device);
    mountpoint_forbid_links(gate, mounted->mountpoint);
    if (!options->foreground && become_daemon(mounted) < 0)
        return EXIT_FAILURE;
    if (options->sandbox)
        return serve_confined(mounted, fs, gate, options);
    log_info("not confined: sandbox=off");
    return serve(mounted->session, fs, gate, NULL, make_ring(mounted->session, options),
                 tune_open_read_ahead(mounted->device), options);
}

static int mount_and_serve(QcGate *gate, const Options *options, const char *mountpoint)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    Fs *fs = NULL; /* set in the process that serves; requests find it through its address */
    int status = EXIT_FAILURE;

    fill_args(&args, options, qc_gate_store(gate));
    struct fuse_session *session = fuse_session_new(&args, &ops_table, sizeof(ops_table), &fs);
    fuse_opt_free_args(&args);
    if (!session)
        return status;
    signals_hold(true); /* from here on somebody has to unmount */
    if (fuse_session_mount(session, mountpoint) == 0) {
        Mounted mounted = {session, mountpoint, device_of(mountpoint)};
        status = serve_as_daemon(&mounted, &fs, gate, options);
        take_away(&mounted);
    }
    fuse_session_destroy(session); /* closes the device; so the kernel gives the tree up */
    return status;
}

int daemon_run(const Options *options)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QcGate) gate = NULL;

    log_catch_fuse();
    signal(SIGPIPE, SIG_IGN); /* of a standard error that nobody reads */
    signal(SIGIO, SIG_IGN);   /* somebody writes to a file that we just asked about */
    signal(SIGXFSZ, SIG_IGN); /* of a limit to the size of files: the write says so as well */
    if (qc_gate_new(options->store, options->backing, &gate, &error) < 0) {
        log_error("%s", error->message);
        return EXIT_FAILURE;
    }

    g_autofree char *mountpoint = mountpoint_check(qc_gate_store(gate), options->mountpoint);
    if (!mountpoint)
        return EXIT_FAILURE;
    tune_open_files();
    memory_tune();
    return mount_and_serve(gate, options, mountpoint);
}
