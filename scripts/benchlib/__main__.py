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


def measure(names, sizes):
    """All lines; a table of what there is grows on standard error."""
    lines = []
    for name in names:
        note("row " + name)
        mine = ROWS[name](sizes)
        for line in mine:
            line.row = name
        lines += mine
        note("\n" + "\n".join(report.table(mine)))
    return lines


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
    try:
        os.chdir(work)
        lines = measure(names, Sizes(quick))
        print("\n".join(report.table(lines)))
        if docs:
            report.write_docs(lines, list(ROWS))
    except Failure as failure:
        sys.exit("bench: %s" % failure)
    finally:
        leave(work)


if __name__ == "__main__":
    main()
