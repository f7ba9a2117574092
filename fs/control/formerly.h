/*
 * formerly.h - what snapshots were shown as before a command of ours let them be shown otherwise.
 *
 * Of two snapshots n, shown as n~1 and n~2, the one that is left is shown as n. Somebody may still
 * work off a list with n~2 in it. Only what was listed is remembered, for n~2 may as well be a name
 * that somebody has given, and deleted again: it must not come to mean the snapshot n.
 */
#ifndef SNAPTREE_FORMERLY_H
#define SNAPTREE_FORMERLY_H

#include "qcow.h"

/* Thread-safe. */
typedef struct Formerly Formerly;

/* most: names to remember; then the oldest is forgotten. */
Formerly *formerly_new(unsigned most);
void formerly_free(Formerly *formerly); /* accepts NULL */

/* A snapshot of a file was shown so. identity: which one. */
void formerly_note(Formerly *formerly, const QcFileStat *file, const char *shown,
                   const char *identity);
/* Another snapshot is to be shown so. */
void formerly_forget(Formerly *formerly, const QcFileStat *file, const char *shown);
/* The identity that was noted (g_free); NULL: none. */
char *formerly_find(Formerly *formerly, const QcFileStat *file, const char *shown);

#endif
