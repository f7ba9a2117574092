"""Called by scripts/bench, with SNAPTREE and FLOOR in the environment."""

import os
import shutil
import signal
import sys
import tempfile

from . import commands, jobs, reading, report, servers
from .images import Sizes
from .measure import Failure, note

ROWS = {**reading.ROWS, **commands.ROWS, **jobs.ROWS}


def measure(names, sizes, lines):
    """Add to the lines, row by row; a table of what there is grows on standard error."""
    for name in names:
        note("row " + name)
        mine = ROWS[name](sizes)
        for line in mine:
            line.row = name
        lines += mine
        note("\n" + "\n".join(report.table(mine)))


def leave(work):
    os.chdir("/")
    for place in ["mnt", "exported", "qcow", "nbd"]:
        if os.path.lexists(os.path.join(work, place)):
            servers.clear(os.path.join(work, place))
    shutil.rmtree(work)


def main():
    words = sys.argv[1:]
    quick = words[:1] == ["quick"]
    docs = "--docs" in words
    if quick and docs:
        sys.exit("bench: the docs are not written from a quick run")
    names = [word for word in words[quick:] if word != "--docs"] or list(ROWS)
    unknown = set(names) - set(ROWS)
    if unknown:
        sys.exit("bench: no row %s; there are %s" % (", ".join(unknown), ", ".join(ROWS)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = tempfile.mkdtemp(prefix="snaptree-bench.")
    lines = []
    try:
        os.chdir(work)
        measure(names, Sizes(quick), lines)
    except Failure as failure:
        sys.exit("bench: %s" % failure)
    finally:  # a row that fails takes nothing from those before it
        leave(work)
        print("\n".join(report.table(lines)))
        if docs and lines:
            report.write_docs(lines, list(ROWS))


if __name__ == "__main__":
    main()
