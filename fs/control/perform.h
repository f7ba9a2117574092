/* perform.h - one command on one image, from opening the file to letting go of it. */
#ifndef SNAPTREE_PERFORM_H
#define SNAPTREE_PERFORM_H

#include "command.h"
#include "fs.h"

/* What a command was on. Zeros at first. */
typedef struct Target {
    bool allowed; /* an image, and one that the caller may write */
    bool begun;   /* it was opened for the command, or that was tried */
    QcFileStat file;
} Target;

/* What a command has to say beside its error. Zeros at first. */
typedef struct Said {
    char *note;      /* of one that succeeded, or NULL */
    char *to_others; /* of one that failed: the message for others who may read the image, but
                        perhaps not see all that the error names; NULL: the same message */
} Said;

void said_clear(Said *said);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Said, said_clear)

/*
 * Run the command on the image at this path for this caller. Blocks until it is durable, or has
 * failed and changed nothing; -ECANCELED: it was stopped. ret_target: set before run's progress is
 * told. Thread-safe: commands on one file take turns.
 */
int perform(Fs *fs, const char *path, const Creds *creds, const Command *command, QcRun *run,
            Target *ret_target, Said *ret_said, GError **error);

/* Set *ret as perform() sets *ret_target, for a command that is not to run. */
void perform_find(Fs *fs, const char *path, const Creds *creds, Target *ret);

#endif
