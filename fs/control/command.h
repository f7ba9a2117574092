/*
 * command.h - the language of the control files: bytes that were written -> commands. Pure: it
 * knows the words and how many arguments each takes, not what they do.
 */
#ifndef SNAPTREE_COMMAND_H
#define SNAPTREE_COMMAND_H

#include <glib.h>
#include <stdbool.h>

#define COMMAND_MAX_BYTES 65536u /* one write */

typedef enum CommandVerb {
    COMMAND_TAKE,
    COMMAND_REVERT,
    COMMAND_DELETE,
    COMMAND_RENAME,
    COMMAND_CHECK,
    COMMAND_REPAIR,
} CommandVerb;

/* One line, understood or not. */
typedef struct Command {
    char *text; /* the line, printable, without the blanks before it */
    CommandVerb verb;
    char *image;    /* store control: path of the image, else NULL */
    char *name;     /* the snapshot, as it was typed; check, repair: NULL */
    char *new_name; /* rename, else NULL */
    GError *error;  /* why the line cannot be run, or NULL; then the rest is not set */
} Command;

void command_free(Command *command); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Command, command_free)

/* What was written at once. Each line is looked at when its turn comes, which may be never. */
typedef struct Script Script;

/* with_image: the image's path comes before the other arguments (store control). */
Script *script_new(const char *bytes, size_t len, bool with_image);
/* One that holds nothing but why all of it is refused; a positive errno. */
Script *script_new_refused(size_t len, int error, const char *reason);
void script_free(Script *script); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Script, script_free)

/*
 * The next command, or NULL behind the last (command_free). Blank lines and comments are left out.
 * A write that cannot be commands gives one, which has an error.
 */
Command *script_next(Script *script);

/*
 * The command as one would type it at the image's own control file; or, given the image's path, at
 * the store's (g_free). Printable: one line in which nothing passes for something else.
 */
char *command_to_text(const Command *command, const char *image);

/* The comment block that lists the commands (g_free); lines start with '#'. */
char *command_help(bool with_image);

#endif
