/* findings.h - adding to what a check finds. */
#ifndef QCOW_FINDINGS_H
#define QCOW_FINDINGS_H

#include "qcow.h"

/* Add an error; the sentence about it is kept if it is the first one. */
void qc_find(QcCheck *findings, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Add n errors of one kind, or none; the sentence is about the first of them. */
void qc_find_several(QcCheck *findings, uint64_t n, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
