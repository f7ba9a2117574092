/* serial.h - a thread pool in which tasks of one key run one after another, in order. */
#ifndef SNAPTREE_SERIAL_H
#define SNAPTREE_SERIAL_H

#include <glib.h>

typedef struct Serial Serial;

/* threads: how many keys are worked on at the same time. Starts no thread by itself. */
Serial *serial_new(unsigned threads);
/* Wait until every task has run, those that tasks add included. */
void serial_drain(Serial *serial);
/* Drains first. Accepts NULL. */
void serial_free(Serial *serial);

/* Run task(data) after all tasks that were added before with an equal key. */
void serial_push(Serial *serial, const char *key, void (*task)(gpointer), gpointer data);

#endif
