/* meter.c - see meter.h. */
#include "meter.h"
#include <errno.h>

enum {
    ALMOST = 99, /* percent; the rest is for the syncs */
};

void qc_meter_set_total(QcMeter *meter, uint64_t tables)
{
    meter->total = tables * meter->passes;
}

int qc_meter_ask(const QcMeter *meter)
{
    const QcRun *run = meter->run;
    if (!run || !run->progress)
        return 0;
    uint64_t percent = meter->total ? meter->done * 100 / meter->total : 0;
    return run->progress(run->progress_data, (unsigned)MIN(percent, ALMOST)) ? 0 : -ECANCELED;
}

int qc_meter_step(QcMeter *meter)
{
    if (meter->total > 0)
        meter->done++;
    return qc_meter_ask(meter);
}
