/*
 * Each request goes to exactly one thread, whether threads look for it or sleep. A socket that
 * keeps messages apart stands for /dev/fuse.
 */
#include "channel.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    N_THREADS = 6,
    N_REQUESTS = 20000,
    END = N_REQUESTS, /* a request to go home */
};

typedef struct Bench {
    Channel *channel;
    int device;
    gint seen[N_REQUESTS];
} Bench;

static void *serve(void *data)
{
    Bench *bench = data;
    guint32 request;

    while (channel_receive(bench->channel, bench->device, &request, sizeof(request)) ==
               sizeof(request) &&
           request != END)
        g_atomic_int_inc(&bench->seen[request]);
    return NULL;
}

/* Some at once, some one by one, some after everybody has gone to sleep. */
static void send_all(int kernel)
{
    for (guint32 i = 0; i < N_REQUESTS; i++) {
        cr_assert_eq(send(kernel, &i, sizeof(i), 0), sizeof(i));
        if (i % 100 == 0)
            g_usleep(i % 1000 == 0 ? 500 : 10);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        cr_assert_eq(send(kernel, &(guint32){END}, sizeof(guint32), 0), sizeof(guint32));
}

static void all_are_served_once(unsigned processors)
{
    g_autofree Bench *bench = g_new0(Bench, 1);
    GThread *threads[N_THREADS];
    int ends[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    bench->channel = channel_new(processors);
    bench->device = ends[0];
    for (unsigned i = 0; i < N_THREADS; i++)
        threads[i] = g_thread_new("serve", serve, bench);
    send_all(ends[1]);
    for (unsigned i = 0; i < N_THREADS; i++)
        g_thread_join(threads[i]);
    for (unsigned i = 0; i < N_REQUESTS; i++)
        cr_assert_eq(bench->seen[i], 1, "request %u: %d times", i, bench->seen[i]);
    channel_free(bench->channel);
    close(ends[0]);
    close(ends[1]);
}

Test(channel, each_request_is_served_once)
{
    all_are_served_once(8);
}

Test(channel, each_request_is_served_once_by_one_processor)
{
    all_are_served_once(1);
}

Test(channel, errors_are_those_of_read)
{
    Channel *channel = channel_new(8);
    int ends[2];
    char byte;

    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    errno = 0;
    cr_expect_eq(channel_receive(channel, ends[1], &byte, 1), -1);
    cr_expect_eq(errno, EBADF);
    close(ends[1]);
    cr_expect_eq(channel_receive(channel, ends[0], &byte, 1), 0);
    close(ends[0]);
    channel_free(channel);
}
