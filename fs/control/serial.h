/* serial.h - a thread pool in which tasks of one key run one after another, in order. */
#ifndef SNAPTREE_SERIAL_H
#define SNAPTREE_SERIAL_H

#include <glib.h>
#include <stdbool.h>

typedef struct Serial Serial;

/*
 * What a task does. While it waits, unwanted() is asked ten times a second or so, on another
 * thread; it must not block. When it says so, the task leaves its queue, and drop() is called
 * instead of run(). Both may be NULL: then it is wanted in any case.
 */
typedef struct SerialKind {
    void (*run)(gpointer data);
    bool (*unwanted)(gpointer data);
    void (*drop)(gpointer data);
} SerialKind;

/* threads: how many keys are worked on at the same time. Starts them, or as many as it
 * can, and one more. NULL: it cannot. */
Serial *serial_new(unsigned threads);
/* Wait until every task has run or was dropped, those that tasks add included. */
void serial_drain(Serial *serial);
/* Drains first. Accepts NULL. */
void serial_free(Serial *serial);

/* Run the task after all tasks that were added before with an equal key. kind: static. */
void serial_push(Serial *serial, const char *key, const SerialKind *kind, gpointer data);

#endif
