/*
 * error.h - the one way in which the engine fails: a negative errno and, for a person, a
 * GError whose code is the positive errno.
 */
#ifndef QCOW_ERROR_H
#define QCOW_ERROR_H

#include "qcow.h"
#include <errno.h>

/* Fill error (if not NULL) with a sentence and return err, which is a negative errno. */
int qc_fail(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
