/* perform.h - one command on one image, from opening the file to letting go of it. */
#ifndef SNAPTREE_PERFORM_H
#define SNAPTREE_PERFORM_H

#include "command.h"
#include "fs.h"

/* As QcProgressFunc: told how far the command is, answers whether to go on. */
typedef struct Progress {
    QcProgressFunc func;
    void *data;
} Progress;

/*
 * Run the command on the image at this path for this caller. Blocks until it is durable, or
 * has failed and changed nothing; -ECANCELED: it was stopped. ret_allowed: set to true, however it
 * ends, when that is an image, and the caller may write it. ret_note: what a command that succeeded
 * has to say, or NULL (g_free). Not from two threads for one path.
 */
int perform(Fs *fs, const char *path, const Creds *creds, const Command *command,
            const Progress *progress, bool *ret_allowed, char **ret_note, GError **error);

/* Whether that is an image, and the caller may write it, as perform() would find. */
bool perform_is_allowed(Fs *fs, const char *path, const Creds *creds);

#endif
