/* allowance.h - how many of something each user may have at a time, and all users together. */
#ifndef SNAPTREE_ALLOWANCE_H
#define SNAPTREE_ALLOWANCE_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Thread-safe. */
typedef struct Allowance Allowance;

Allowance *allowance_new(unsigned each, unsigned all);
void allowance_free(Allowance *allowance); /* accepts NULL */

/* Take one; false: there is none left for this user. */
bool allowance_take(Allowance *allowance, uid_t uid);
void allowance_give_back(Allowance *allowance, uid_t uid);

#endif
