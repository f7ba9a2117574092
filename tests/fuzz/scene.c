/* scene.c - see scene.h. */
#include "scene.h"

#include "fuzz.h"
#include "script.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    N_IMAGES = 3,
};

/* ---- the store ----------------------------------------------------------------------------- */

static char *store;
static MemFile *images[N_IMAGES];
static const char *const paths[] = {"a.qcow2", "sub/b.qcow2", "c.raw"};

static void put(const char *path, const MemFile *image)
{
    g_autofree char *full = g_build_filename(store, path, NULL);

    fuzz_require(g_file_set_contents_full(full, (const char *)image->data->data, image->data->len,
                                          G_FILE_SET_CONTENTS_NONE, 0644, NULL));
}

static void take_away(const char *path)
{
    g_autofree char *full = g_build_filename(store, path, NULL);

    remove(full);
}

static void end_store(void)
{
    for (unsigned i = 0; i < N_IMAGES; i++) {
        take_away(paths[i]);
        qc_file_unref(mem_file(images[i]));
    }
    take_away("sub");
    take_away("");
    g_free(store);
}

static void begin_store(void)
{
    const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
    g_autofree char *sub = NULL;

    store = g_build_filename(memory, "snaptree-requests.XXXXXX", NULL);
    fuzz_require(g_mkdtemp(store));
    sub = g_build_filename(store, "sub", NULL);
    fuzz_require(mkdir(sub, 0755) == 0);
    images[0] = script_used_image(&script_kinds[0], SCENE_DISK_BYTES, SCRIPT_HISTORY - 1);
    images[1] = script_used_image(&script_kinds[3], SCENE_DISK_BYTES, SCRIPT_HISTORY - 1);
    images[2] = mem_file_new(images[0]->data->data + 512, SCENE_DISK_BYTES / 4);
}

/* ---- who asks ------------------------------------------------------------------------------ */

static pid_t stopped, ended;

/* A process that has a signal pending that asks it to end, and one that nobody has waited for. */
static void begin_askers(void)
{
    siginfo_t info;

    stopped = fork();
    if (stopped == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    fuzz_require(stopped > 0 && kill(stopped, SIGSTOP) == 0);
    fuzz_require(waitid(P_PID, (id_t)stopped, &info, WSTOPPED) == 0);
    kill(stopped, SIGTERM);
    ended = fork();
    if (ended == 0)
        _exit(0);
    fuzz_require(ended > 0 && waitid(P_PID, (id_t)ended, &info, WEXITED | WNOWAIT) == 0);
}

static void end_askers(void)
{
    kill(stopped, SIGKILL);
    waitpid(stopped, NULL, 0);
    waitpid(ended, NULL, 0);
}

Asker scene_asker(unsigned who)
{
    const pid_t pids[] = {0, 1, stopped, ended, 0, 1, stopped, getpid()};

    return (Asker){.uid = who & 1 ? 65534 : 0, .pid = (uint32_t)pids[who / 2 % G_N_ELEMENTS(pids)]};
}

/* ---- the whole ----------------------------------------------------------------------------- */

void scene_change(unsigned how)
{
    const char *path = paths[how % N_IMAGES];

    if (how & 0x80)
        take_away(path);
    else
        put(path, images[how / N_IMAGES % N_IMAGES]);
}

const char *scene_begin(void)
{
    if (!store) {
        begin_store();
        begin_askers();
        atexit(end_askers);
        atexit(end_store);
    }
    for (unsigned i = 0; i < N_IMAGES; i++)
        put(paths[i], images[i]);
    return store;
}
