/* text.h - text for people: one line, valid UTF-8, nothing that a terminal obeys. Pure. */
#ifndef SNAPTREE_TEXT_H
#define SNAPTREE_TEXT_H

#include <glib.h>
#include <stdbool.h>

/* How many bytes the character at the beginning has in UTF-8; 1 of a byte that is part of none,
 * which then is the character. */
size_t text_character(const char *bytes, size_t len, gunichar *ret);

/* Those of ASCII, and U+0080 to U+009F: the second set, in which a terminal may find its CSI. */
bool text_is_control(gunichar c);

/* A copy that stays one line: every control character in it is written \xNN, byte by byte. */
char *text_one_line(const char *text);

/* A copy in which invalid UTF-8 is replaced by U+FFFD, as QEMU prints it. */
char *text_utf8(const char *text);

#endif
