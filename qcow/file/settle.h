/*
 * settle.h - how far the stat of a file tells of its changes. What users of the engine may ask is
 * in qcow-file.h.
 */
#ifndef QCOW_SETTLE_H
#define QCOW_SETTLE_H

#include "qcow-file.h"

/* How far what is read of the file from now on holds while its stat is st, which was just taken. */
QcTrust qc_file_trust(QcFile *file, const QcFileStat *st);

/*
 * Whether a file had the time of a moment that was still to come, and by now, a later stat, the
 * clock is there: then a write may have given it the same time once more.
 */
bool qc_file_time_has_come(const QcFileStat *was, const QcFileStat *now);

#endif
