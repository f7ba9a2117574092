/* channel.h - the kernel's requests: how a thread waits for the next one, and sends an answer. */
#ifndef SNAPTREE_CHANNEL_H
#define SNAPTREE_CHANNEL_H

#include <sys/types.h>

struct fuse_session;
struct iovec;

typedef struct Channel Channel;

/* For a machine with so many processors. */
Channel *channel_new(unsigned processors);
void channel_free(Channel *channel); /* accepts NULL; no thread may be in channel_receive() */

/*
 * Have a mounted session fetch its requests with channel_receive(). Its user data is an Fs **.
 * Not together with clone_fd: newer versions of libfuse then do without that.
 * 0, or a negative errno with nothing changed.
 */
int channel_attach(struct fuse_session *session);

/*
 * read(2) of a descriptor of /dev/fuse: one request, or -1 with errno. Thread-safe; a thread is
 * taken to be at work on a request from here to its next call. A point of cancellation.
 */
ssize_t channel_receive(Channel *channel, int fd, void *buf, size_t len);

/*
 * writev(2) to such a descriptor: an answer, or a notification. Sent again while something is
 * short, as a program waits for each answer. Thread-safe.
 */
ssize_t channel_send(int fd, const struct iovec *iov, int n);

#endif
