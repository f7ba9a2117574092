/* gate.h - what other modules of the engine ask of a gate; the rest is in qcow.h. */
#ifndef QCOW_GATE_H
#define QCOW_GATE_H

#include "qcow.h"
#include "watch.h"

/* What tells of changes of the files that it opens (borrowed); NULL: nothing does. */
QcWatcher *qc_gate_watcher(const QcGate *gate);

#endif
