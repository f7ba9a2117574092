/*
 * daemon.c - see daemon.h.
 *
 * The order matters: what can go wrong is tried while standard error is still open, and the process
 * that was called waits until the tree is there; the process that serves is confined when all is
 * opened that it could not open later, and before it has threads; commands that run at the end are
 * finished before the session, which they answer to, goes away; and the keeper, which is not
 * confined, unmounts.
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
#include <sys/wait.h>
#include <unistd.h>

enum {
    MIN_THREADS = 16,
    END_MS = 10 * 1000, /* to wait for a daemon that cannot serve, looking every */
    STEP_MS = 5,
    NO_THREAD = -1, /* how libfuse's loop ends then; libfuse has said why */
};

/* One mount, and what serves it. */
typedef struct Mounted {
    const Options *options;
    QcGate *gate;
    const char *mountpoint;
    struct fuse_session *session;
    dev_t device;    /* st_dev of the tree; 0: not known */
    uint64_t number; /* see mountpoint.h */
    /* the rest is set in the process that serves */
    Keeper *keeper; /* NULL: there is none */
    Ring *ring;     /* NULL: none is wanted, or to be had */
    int read_ahead; /* see tune.h; the Fs owns it */
    Fs *fs;         /* requests find it through its address here */
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
    add_option(list, "nosuid", ""); /* a worker that was taken over could make up such files */
    add_option(list, "nodev", "");
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

/* Serve requests until the tree is unmounted: 0, or a signal ends that: its number; or -errno. */
static int loop(const Mounted *mounted)
{
    const Options *options = mounted->options;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    unsigned threads = options->max_threads ? options->max_threads
                                            : MAX(MIN_THREADS, 2 * g_get_num_processors() + 8);

    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_loop_cfg_set_idle_threads(config, threads);
    fuse_loop_cfg_set_clone_fd(config, options->clone_fd);
    int r = fuse_session_loop_mt(mounted->session, config);
    fuse_loop_cfg_destroy(config);
    return r;
}

static void say_why_no_ring(int r)
{
    const char *off =
        "the kernel does not offer it, or /sys/module/fuse/parameters/enable_uring is off";

    log_info("io_uring is not used: %s", r == -EOPNOTSUPP ? off : g_strerror(-r));
}

/* Make a ring, if one is wanted and the kernel offers it. */
static void make_ring(Mounted *mounted)
{
    const Options *options = mounted->options;

    if (options->io_uring && options->clone_fd) {
        log_info("io_uring is not used: it does not work together with clone_fd");
    } else if (options->io_uring) {
        int r = ring_new(fuse_session_fd(mounted->session), &mounted->ring);
        if (r < 0)
            say_why_no_ring(r);
    }
}

/* Have requests fetched by the channel, and over the ring. A ring that cannot be used is freed. */
static void open_channel(Mounted *mounted)
{
    const Options *options = mounted->options;
    Fs *fs = mounted->fs;
    int r = options->clone_fd ? -EINVAL : channel_attach(mounted->session);

    if (r < 0 && !options->clone_fd)
        log_error("no memory to fetch requests in our own way; they are fetched in libfuse's");
    if (r == 0 && mounted->ring)
        r = ring_start(mounted->ring, mounted->session);
    if (r < 0 && mounted->ring) {
        say_why_no_ring(r);
        g_clear_pointer(&mounted->ring, ring_free);
    }
    fs->ring = mounted->ring;
    greeting_want(fs->greeting, GREETING_PARALLEL);
    if (fs->ring)
        greeting_want(fs->greeting, GREETING_RINGS);
    if (geteuid() == 0 && options->backing != QC_BACKING_ANY) /* the kernel allows root only */
        greeting_want(fs->greeting, GREETING_PASSTHROUGH);
}

/* Not that anybody waits for it. (The keeper's death ends the worker with a signal, too.) */
static void say_why_it_ends(const Mounted *mounted, int ended)
{
    if (!log_takes_lines())
        return;
    if (ended == NO_THREAD)
        log_error("no thread can be started that serves; the mount ends");
    else if (ended < 0)
        log_error("no requests can be fetched any more: %s; the mount ends", g_strerror(-ended));
    else if (mounted->keeper && keeper_is_gone(mounted->keeper))
        log_error("the process that unmounts was killed; the mount ends");
    else if (ended > 0)
        log_info("ends: told to by signal %d (%s)", ended, g_strsignal(ended));
    else
        log_info("ends: unmounted, or its connection was aborted");
}

/* From the first request to the last, and to the end of the commands that run then. */
static int serve_requests(const Mounted *mounted)
{
    Fs *fs = mounted->fs;

    if (fuse_set_signal_handlers(mounted->session) < 0)
        return EXIT_FAILURE;
    signals_handle_as_term();
    signals_hold(false);
    int ended = loop(mounted);
    int status = ended < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    signals_hold(true); /* a second signal has nothing to add */
    atomic_store(&fs->ending, true);
    say_why_it_ends(mounted, ended);
    if (mounted->keeper)
        keeper_tell_ending(mounted->keeper);
    if (fs->ring && ring_has_failed(fs->ring))
        status = EXIT_FAILURE;
    if (fs->ring)
        ring_pause(fs->ring);
    serial_drain(fs->serial);
    fuse_remove_signal_handlers(mounted->session);
    return status;
}

/* What has to be opened before the process is confined. */
static void prepare(Mounted *mounted)
{
    mounted->read_ahead = tune_open_read_ahead(mounted->device);
    make_ring(mounted);
}

/* Serve the tree in this process. */
static int serve(Mounted *mounted)
{
    int status = EXIT_FAILURE;

    tune_file_table(qc_gate_dirfd(mounted->gate));
    int r = fs_new(mounted->gate, mounted->keeper, fuse_session_fd(mounted->session),
                   mounted->read_ahead, mounted->options, &mounted->fs);
    if (r == 0) {
        open_channel(mounted);
        status = serve_requests(mounted);
    } else if (r == -EAGAIN) {
        log_error("cannot create the threads that it takes: too many tasks, or too little memory");
    } else {
        log_error("no memory for the cache");
    }
    ring_free(mounted->ring);
    fs_free(mounted->fs);
    return status;
}

static void confine(const Mounted *mounted)
{
    const Options *options = mounted->options;
    SandboxPolicy policy = {
        .store = qc_gate_dirfd(mounted->gate),
        .may_write = !options->read_only,
        .read_anywhere = options->backing == QC_BACKING_ANY,
        .fuse_device = options->clone_fd,
        .io_uring = mounted->ring != NULL,
    };

    if (!options->foreground)
        log_to_sink(keeper_log, mounted->keeper);
    qc_gate_set_device_opener(mounted->gate, keeper_open_device, mounted->keeper);
    g_autofree char *in_force = sandbox_enter(&policy);
    log_info("confined: %s", in_force);
}

/* Whether the kernel has given the tree up already; then libfuse unmounts nothing by its path. */
static bool is_given_up(struct fuse_session *session)
{
    struct pollfd device = {.fd = fuse_session_fd(session)};

    return poll(&device, 1, 0) == 1 && device.revents & POLLERR;
}

/* A KeeperUnmount; data is the Mounted. Leaves alone what others have mounted at the same place. */
static bool take_away(void *data)
{
    Mounted *mounted = data;
    bool given_up = is_given_up(mounted->session);
    bool may_unmount = !given_up && mountpoint_may_unmount(mounted->mountpoint, mounted->device);

    if (given_up || may_unmount)
        fuse_session_unmount(mounted->session);
    return mountpoint_clear(mounted->device, mounted->number) || may_unmount;
}

/* Serve it in a confined process, and wait for that. */
static int serve_confined(Mounted *mounted)
{
    int status;
    int r =
        keeper_split(mounted->gate, !mounted->options->read_only, fuse_session_fd(mounted->session),
                     take_away, mounted, &mounted->keeper, &status);

    if (r < 0) {
        log_error("cannot start the process that serves: %s", g_strerror(-r));
        return EXIT_FAILURE;
    }
    if (!mounted->keeper)
        return status;
    prepare(mounted);
    confine(mounted);
    exit(serve(mounted));
}

/*
 * Wait until a daemon that cannot serve has unmounted, and ended. Not without end: one whose tree
 * is only out of reach, as others have mounted something upon it meanwhile, lives on.
 */
static void wait_for_end(pid_t daemon)
{
    for (int waited = 0; waited < END_MS && waitpid(daemon, NULL, WNOHANG) == 0; waited += STEP_MS)
        g_usleep(STEP_MS * 1000);
}

/*
 * In the process that was called: wait until the tree is served. Returns the exit status. Only the
 * daemon may have /dev/fuse open, so that the kernel ends all requests without an answer when the
 * daemon ends.
 */
static int wait_for_tree(const Mounted *mounted, pid_t daemon)
{
    struct stat st;

    close(fuse_session_fd(mounted->session));
    signals_hold(false);
    int r = stat(mounted->mountpoint, &st) < 0 ? -errno : 0;
    if (r == 0 && (!mounted->device || st.st_dev == mounted->device))
        return EXIT_SUCCESS;
    if (r < 0)
        kill(daemon, SIGTERM); /* it may live, and be short of something */
    wait_for_end(daemon);
    log_error("%s could not be served (%s); the system's log says why", mounted->mountpoint,
              r < 0 ? g_strerror(-r) : "it is not mounted there");
    return EXIT_FAILURE;
}

/* Go on in a process of its own. False, after saying why: it cannot. */
static bool become_daemon(const Mounted *mounted)
{
    pid_t daemon = fork();

    if (daemon < 0) {
        log_error("cannot become a daemon: %s", g_strerror(errno));
        return false;
    }
    if (daemon > 0)
        _exit(wait_for_tree(mounted, daemon));
    setsid();
    log_to_syslog();

    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (chdir("/") < 0 || null < 0) {
        log_error("cannot become a daemon: %s", g_strerror(errno));
        return false;
    }
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    close(null);
    return true;
}

/* The device number of the tree; 0: not known. The tree does not answer before it is served. */
static dev_t device_of(const char *mountpoint)
{
    g_auto(Mount) mount = {0};

    return mounts_find(mountpoint, &mount) == 0 ? mount.device : 0;
}

static int serve_as_daemon(Mounted *mounted)
{
    const Options *options = mounted->options;

    qc_gate_set_own_device(mounted->gate, mounted->device);
    mountpoint_forbid_links(mounted->gate, mounted->mountpoint);
    if (!options->foreground && !become_daemon(mounted))
        return EXIT_FAILURE;
    if (options->sandbox)
        return serve_confined(mounted);
    log_info("not confined: sandbox=off");
    prepare(mounted);
    return serve(mounted);
}

static int mount_and_serve(QcGate *gate, const Options *options, const char *mountpoint)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    Mounted mounted = {.options = options, .gate = gate, .mountpoint = mountpoint};
    int status = EXIT_FAILURE;

    fill_args(&args, options, qc_gate_store(gate));
    mounted.session = fuse_session_new(&args, &ops_table, sizeof(ops_table), &mounted.fs);
    fuse_opt_free_args(&args);
    if (!mounted.session)
        return status;
    signals_hold(true); /* from here on, what is mounted has to be unmounted */
    if (fuse_session_mount(mounted.session, mountpoint) == 0) {
        mounted.device = device_of(mountpoint);
        mounted.number = mountpoint_number(mountpoint);
        status = serve_as_daemon(&mounted);
        take_away(&mounted);
    }
    fuse_session_destroy(mounted.session); /* closes the device; so the kernel gives the tree up */
    return status;
}

int daemon_run(const Options *options)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QcGate) gate = NULL;

    log_catch_libraries();
    signal(SIGTERM, SIG_DFL); /* ends us, whatever our caller ignores */
    signal(SIGCHLD, SIG_DFL); /* or nobody is told how a child has ended */
    signal(SIGPIPE, SIG_IGN); /* of a standard error whose reader is gone */
    signal(SIGXFSZ, SIG_IGN); /* of a limit to the size of files: the write says so as well */
    if (!tune_limits())
        return EXIT_FAILURE;
    if (qc_gate_new(options->store, options->backing, &gate, &error) < 0) {
        log_error("%s", error->message);
        return EXIT_FAILURE;
    }

    g_autofree char *mountpoint = mountpoint_check(qc_gate_store(gate), options->mountpoint);
    if (!mountpoint)
        return EXIT_FAILURE;
    memory_tune();
    return mount_and_serve(gate, options, mountpoint);
}
