/*
 * greeting.h - the kernel's first request, in which it says what it offers, and the answer.
 *
 * libfuse answers it, and asks for what it knows itself. What a newer kernel offers is asked for
 * here, whatever libfuse's version.
 */
#ifndef SNAPTREE_GREETING_H
#define SNAPTREE_GREETING_H

#include <stdbool.h>
#include <sys/uio.h>

typedef enum GreetingOffer {
    GREETING_RINGS = 1,       /* requests over io_uring */
    GREETING_PASSTHROUGH = 2, /* files that the kernel reads by itself */
    GREETING_PARALLEL = 4,    /* several requests at once in one directory */
} GreetingOffer;

typedef struct Greeting Greeting;

Greeting *greeting_new(void);
void greeting_free(Greeting *greeting); /* accepts NULL */

/* Ask for this, if it is offered. Before the first request. */
void greeting_want(Greeting *greeting, GreetingOffer offer);
/* Whether it was offered and asked for. Thread-safe. */
bool greeting_has(const Greeting *greeting, GreetingOffer offer);

/* Look at a request as it came from the device, for the first one. Thread-safe. */
void greeting_look_at(Greeting *greeting, const void *request, size_t len);
/* Whether this is the answer to it. Thread-safe. */
bool greeting_is_answer(const Greeting *greeting, const struct iovec *iov);
/* writev(2) of that answer, with what is wanted and offered added to it. */
ssize_t greeting_answer(Greeting *greeting, int fd, const struct iovec *iov, int n);

#endif
