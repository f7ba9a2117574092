/* words.h - a line of a control file as words, quoted as in the POSIX shell. Pure. */
#ifndef SNAPTREE_WORDS_H
#define SNAPTREE_WORDS_H

#include <glib.h>

/*
 * The words of a line (g_strfreev), without their quotes; none where the line is blank or only a
 * comment. Nothing in them is expanded. NULL: EINVAL, the quoting is wrong.
 */
char **words_split(const char *line, GError **error);

#endif
