/*
 * fetcher.h - one thread that takes requests from a ring of its own. Of ring.c only.
 */
#ifndef SNAPTREE_FETCHER_H
#define SNAPTREE_FETCHER_H

#include <glib.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

struct fuse_session;

typedef enum CrewState {
    CREW_WAITS, /* for the kernel's first request */
    CREW_WORKS, /* the kernel may use the rings */
    CREW_GOES,
} CrewState;

/* What all fetchers of a mount share. The first fields are set before there are threads. */
typedef struct Crew {
    int device; /* /dev/fuse; borrowed */
    struct fuse_session *session;
    pthread_t starter;    /* the thread that SIGTERM ends the daemon in */
    cpu_set_t processors; /* on which the process may run */
    bool has_processors;  /* that could be told */

    GMutex lock;
    GCond changed;
    CrewState state;  /* lock */
    unsigned n_ready; /* that wait for the kernel, or for the end; lock */
    int error;        /* why one of them was, or is, of no use; lock */
} Crew;

/* What comes before the rest of a request or answer: the kernel's fuse_uring_req_header. */
typedef struct FetcherHeaders {
    union {
        struct fuse_in_header in;
        struct fuse_out_header out;
        char room[128];
    };
    char op_in[128];
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_len;
    uint32_t padding;
    uint64_t reserved;
} FetcherHeaders;

typedef struct Fetcher {
    Crew *crew;
    unsigned processor;
    struct io_uring uring;
    int wake; /* eventfd */
    GThread *thread;
    bool anywhere;  /* not kept on its processor */
    unsigned other; /* answers of the other size, one after the other */

    FetcherHeaders headers;
    void *payload; /* FS_MAX_REQUEST bytes */
    struct iovec parts[2];
    void *request; /* put together */

    GMutex lock;
    GCond changed;
    uint64_t unique; /* of the request that is worked on, 0: none; lock */
    bool answered;   /* lock, when it is another thread that answers */
    bool busy;       /* it is being handled by this thread; lock */
    bool paused;     /* lock */
    bool gone;       /* no answer comes any more; lock */
} Fetcher;

/* Make a fetcher of zeros; to be cleared also when that fails. 0 or -errno. */
int fetcher_init(Fetcher *fetcher, Crew *crew, unsigned processor);
/* Waits for its thread, which has been told to go. */
void fetcher_clear(Fetcher *fetcher);

/* Start its thread. 0 or -errno. */
int fetcher_start(Fetcher *fetcher);
/* Have it handle nothing more, and wait until it does not. */
void fetcher_pause(Fetcher *fetcher);
/* Wake it, to see that it is to go. */
void fetcher_end(Fetcher *fetcher);

/* Answer the request that this very thread is handling, if that is the one. */
bool fetcher_answer_own(uint64_t unique, const struct iovec *iov, int n);
/* Answer a request that the fetcher has left to this thread, if it has. Thread-safe. */
bool fetcher_answer(Fetcher *fetcher, uint64_t unique, const struct iovec *iov, int n);

#endif
