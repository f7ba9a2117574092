/* perform.h - one command on one image, from opening the file to letting go of it. */
#ifndef SNAPTREE_PERFORM_H
#define SNAPTREE_PERFORM_H

#include "command.h"
#include "fs.h"

/*
 * Run the command on the image at this path for this caller. Blocks until it is durable, or
 * has failed and changed nothing. ret_note: what a command that succeeded has to say, or NULL
 * (g_free). Not from two threads for one path.
 */
int perform(Fs *fs, const char *path, const Creds *creds, const Command *command, char **ret_note,
            GError **error);

#endif
