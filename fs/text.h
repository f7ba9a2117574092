/* Text for people: one line, valid UTF-8. Pure. */
#ifndef SNAPTREE_TEXT_H
#define SNAPTREE_TEXT_H

#include <glib.h>

/* A copy in which every control character is written \xNN, so that it stays one line. */
char *text_one_line(const char *text);

/* A copy in which invalid UTF-8 is replaced by U+FFFD, as QEMU prints it. */
char *text_utf8(const char *text);

#endif
