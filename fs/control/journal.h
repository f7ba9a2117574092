/* journal.h - the recent results of each control file, in memory, bounded. Thread-safe. */
#ifndef SNAPTREE_JOURNAL_H
#define SNAPTREE_JOURNAL_H

#include "qcow.h"

#include <sys/types.h>

#define JOURNAL_LINES  32u   /* per control file; of the store's own, per user */
#define JOURNAL_USERS  32u   /* of the store's own; the least recent user but root goes first */
#define JOURNAL_BYTES  1024u /* of a line; the rest is not remembered */
#define JOURNAL_IMAGES 1024u /* control files with results; the least recently used go first */

#define JOURNAL_ALL ((uid_t)-1) /* who may read all that is told any user */

typedef struct Journal Journal;

Journal *journal_new(void);
void journal_free(Journal *journal); /* accepts NULL */

/* What a line is about. */
typedef struct JournalAbout {
    uid_t who;       /* the user who has asked for it */
    QcFileStat file; /* the image: what lies at its path may be another by now */
} JournalAbout;

/* At most max bytes of a text in UTF-8, no character of it split (g_free). */
char *journal_cut(const char *text, size_t max);

/*
 * Add a line (without newline) to the results of a control file; "" is the store's own. to_others:
 * what other users than the one who has asked read in its place.
 */
void journal_add(Journal *journal, const char *image, const JournalAbout *about, const char *line,
                 const char *to_others);

/*
 * What is to be read of a command that still runs, behind the results: at most a line for each
 * whose, an address that tells commands apart.
 */
void journal_set_running(Journal *journal, const char *image, const JournalAbout *about,
                         const void *whose, const char *line);
/* The command has ended; nothing happens where no line of it was set. */
void journal_clear_running(Journal *journal, const char *image, const void *whose);

/*
 * The results of a control file, oldest first, and what runs, each with its newline (g_free), as
 * this user may read them: in the store's own, only what this user has asked for. Only what is
 * about this file (NULL: any).
 */
char *journal_text(Journal *journal, const char *image, uid_t reader, const QcFileStat *file);

#endif
