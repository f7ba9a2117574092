/*
 * meter.h - how far a command is, and whether it is still wanted.
 *
 * What takes time are the L2 tables: a command looks at each of them once to count references,
 * and then at those of the disks it changes. So a look at a table is the unit, and how many there
 * will be is estimated once, when the tables are known. A command's own thread uses it.
 * One of zeros tells nobody.
 */
#ifndef QCOW_METER_H
#define QCOW_METER_H

#include "qcow.h"

typedef struct QcMeter {
    const QcRun *run;     /* whom to tell, or NULL */
    unsigned passes;      /* over all tables, that the command makes at most */
    uint64_t done, total; /* looks at a table */
} QcMeter;

/* Each pass is over so many tables. */
void qc_meter_set_total(QcMeter *meter, uint64_t tables);

/* Tell how far we are. -ECANCELED when the command is to stop. */
int qc_meter_ask(const QcMeter *meter);

/* One table is done. The same result. */
int qc_meter_step(QcMeter *meter);

#endif
