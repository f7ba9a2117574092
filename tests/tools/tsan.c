/*
 * tsan.c - what ThreadSanitizer has to be told; linked into every program of a build with it.
 *
 * The sanitizer sees pthread's locks. GLib's mutexes, conditions, one-time initialisation and
 * reference counts are futexes and atomics inside a library that is not instrumented, so to
 * the sanitizer nothing orders what they order, and it would report every use. The functions
 * here stand before GLib's, do the same by calling them, and tell. With that it also finds
 * locks that are taken in opposite orders.
 *
 * Frees are done here, so that the sanitizer looks at them: what GLib allocates and frees for
 * itself is its own business (called_from_lib below; and G_SLICE=always-malloc, which scripts/test
 * sets, so that memory does not go from thread to thread by GLib's own lists).
 *
 * The kernel orders requests of one open file: whatever was done before an answer happens before
 * the requests that follow it. (Of its own the sanitizer takes every read of a file to come after
 * every write to one, which hides much; the test turns that off.)
 *
 * rand_r is for Criterion: the library that runs its tests maps memory at an address chosen
 * with rand_r, and most of what it chooses is where the sanitizer keeps its shadow.
 */
#include <dlfcn.h>
#include <fuse_lowlevel.h>
#include <glib.h>
#include <pthread.h>
#include <sanitizer/tsan_interface.h>
#include <stdlib.h>

/* The function of that name in the library behind this program, once looked up. */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) real_;                                                            \
        if (!__atomic_load_n(&real_, __ATOMIC_RELAXED))                                            \
            __atomic_store_n(&real_, (__typeof__(&name))dlsym(RTLD_NEXT, #name),                   \
                             __ATOMIC_RELAXED);                                                    \
        __atomic_load_n(&real_, __ATOMIC_RELAXED);                                                 \
    })

/* ---- mutexes and conditions ------------------------------------------------------------- */

static void told_unlock(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    __tsan_mutex_post_unlock(mutex, 0);
}

static void told_lock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, 0);
    __tsan_mutex_post_lock(mutex, 0, 0);
}

void g_mutex_init(GMutex *mutex)
{
    REAL(g_mutex_init)(mutex);
    __tsan_mutex_create(mutex, 0);
}

void g_mutex_clear(GMutex *mutex)
{
    __tsan_mutex_destroy(mutex, 0);
    REAL(g_mutex_clear)(mutex);
}

void g_mutex_lock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, 0);
    REAL(g_mutex_lock)(mutex);
    __tsan_mutex_post_lock(mutex, 0, 0);
}

gboolean g_mutex_trylock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
    gboolean got = REAL(g_mutex_trylock)(mutex);
    __tsan_mutex_post_lock(mutex, __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed),
                           0);
    return got;
}

void g_mutex_unlock(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    REAL(g_mutex_unlock)(mutex);
    __tsan_mutex_post_unlock(mutex, 0);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    told_unlock(mutex);
    REAL(g_cond_wait)(cond, mutex);
    told_lock(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    told_unlock(mutex);
    gboolean signalled = REAL(g_cond_wait_until)(cond, mutex, end_time);
    told_lock(mutex);
    return signalled;
}

/* ---- one-time initialisation ------------------------------------------------------------ */

#undef g_once_init_enter
gboolean g_once_init_enter(volatile void *location)
{
    gboolean first = REAL(g_once_init_enter)(location);
    __tsan_acquire((void *)location);
    return first;
}

#undef g_once_init_leave
void g_once_init_leave(volatile void *location, gsize result)
{
    __tsan_release((void *)location);
    REAL(g_once_init_leave)(location, result);
}

/* ---- reference counts: whoever drops the last one comes after all others ------------------ */

#undef g_atomic_ref_count_dec
gboolean g_atomic_ref_count_dec(gatomicrefcount *arc)
{
    __tsan_release(arc);
    gboolean last = REAL(g_atomic_ref_count_dec)(arc);
    if (last)
        __tsan_acquire(arc);
    return last;
}

/* ---- thread pools ------------------------------------------------------------------------- */

/* What is pushed happens before it is worked on, and all work before the end of the pool. */
typedef struct Pool {
    GFunc work;
    gpointer user_data;
} Pool;

static void told_work(gpointer data, gpointer user_data)
{
    Pool *pool = user_data;
    __tsan_acquire(pool);
    pool->work(data, pool->user_data);
    __tsan_release(pool);
}

GThreadPool *g_thread_pool_new(GFunc func, gpointer user_data, gint max_threads, gboolean exclusive,
                               GError **error)
{
    Pool *pool = g_new(Pool, 1);
    *pool = (Pool){func, user_data};
    __tsan_release(pool);
    return REAL(g_thread_pool_new)(told_work, pool, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    __tsan_release(pool->user_data);
    return REAL(g_thread_pool_push)(pool, data, error);
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
    Pool *told = pool->user_data; /* a few bytes that are never freed: workers may go on */
    REAL(g_thread_pool_free)(pool, immediate, wait);
    __tsan_acquire(told);
}

/* ---- memory ------------------------------------------------------------------------------- */

void g_free(gpointer memory)
{
    free(memory);
}

/* ---- requests ----------------------------------------------------------------------------- */

/*
 * The threads that libfuse cancels at its end are in the middle of a call that the sanitizer does
 * not look at, and it would complain that they never return from that. Unmounting ends them.
 */
int pthread_cancel(pthread_t thread)
{
    (void)thread;
    return 0;
}

static char kernel; /* its address is what stands for it */
static struct fuse_lowlevel_ops told_ops;

#define TOLD_REPLY(name, params, ...)                                                              \
    int name params                                                                                \
    {                                                                                              \
        __tsan_release(&kernel);                                                                   \
        return REAL(name)(__VA_ARGS__);                                                            \
    }

TOLD_REPLY(fuse_reply_err, (fuse_req_t req, int err), req, err)
TOLD_REPLY(fuse_reply_buf, (fuse_req_t req, const char *buf, size_t size), req, buf, size)
TOLD_REPLY(fuse_reply_iov, (fuse_req_t req, const struct iovec *iov, int count), req, iov, count)
TOLD_REPLY(fuse_reply_attr, (fuse_req_t req, const struct stat *attr, double timeout), req, attr,
           timeout)
TOLD_REPLY(fuse_reply_write, (fuse_req_t req, size_t count), req, count)
TOLD_REPLY(fuse_reply_lseek, (fuse_req_t req, off_t off), req, off)
TOLD_REPLY(fuse_reply_open, (fuse_req_t req, const struct fuse_file_info *fi), req, fi)

/*
 * What the libraries lock and free for themselves is theirs. fuse_req_interrupt_func() ends in a
 * jump to the unlock, which looks as if its caller, control_write(), did that. And libfuse calls
 * on_signal() (fs/control/job.c) under the request's lock, which taking it back, before the job is
 * freed, waits for: the sanitizer does not see libfuse's locks.
 */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0\n"
           "called_from_lib:libfuse3\n"
           "mutex:control_write\n"
           "race:^on_signal$\n";
}

/* The requests that come with an open file. */
#define TOLD_OP(op, params, ...)                                                                   \
    static void told_##op params                                                                   \
    {                                                                                              \
        __tsan_acquire(&kernel);                                                                   \
        told_ops.op(__VA_ARGS__);                                                                  \
    }

TOLD_OP(getattr, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), req, ino, fi)
TOLD_OP(setattr,
        (fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *fi),
        req, ino, attr, set, fi)
TOLD_OP(read, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
        req, ino, size, off, fi)
TOLD_OP(write,
        (fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
         struct fuse_file_info *fi),
        req, ino, buf, size, off, fi)
TOLD_OP(lseek, (fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi),
        req, ino, off, whence, fi)
TOLD_OP(release, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), req, ino, fi)
TOLD_OP(readdir,
        (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi), req,
        ino, size, off, fi)
TOLD_OP(releasedir, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), req, ino, fi)

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,
                                      size_t size, void *userdata)
{
    struct fuse_lowlevel_ops told = *ops;
    told_ops = *ops;
    told.getattr = told_getattr;
    told.setattr = told_setattr;
    told.read = told_read;
    told.write = told_write;
    told.lseek = told_lseek;
    told.release = told_release;
    told.readdir = told_readdir;
    told.releasedir = told_releasedir;
    return REAL(fuse_session_new)(args, &told, size, userdata);
}

/* ---- Criterion's arena -------------------------------------------------------------------- */

/* 2^24 times this, from 0x200000000000 on, is in the middle range of what programs may map. */
int rand_r(unsigned *seed)
{
    return 0x350000 + (int)((*seed)++ & 0xfff);
}
