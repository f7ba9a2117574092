"""Lines of the result: as a Markdown table, and as a plot."""

import dataclasses
import json
import os
import subprocess

from .measure import Failure

DOCS = os.path.join(os.path.dirname(__file__), "..", "..", "docs")
STORED = os.path.join(DOCS, "bench.json")  # what the table and the plot are made of
HEAD = ["row", "work", "snaptree", "beside it", "ratio", "target", "met"]
PLOT = """
set terminal svg size 1100,%(height)d font 'sans-serif,12' background '#ffffff'
set output '%(out)s'
set datafile separator '\\t'
set xlabel 'times better than what stands beside it; black: the target'
set logscale x
set xrange [0.2:*]
set yrange [%(count)d - 0.4:-0.6]
set grid x lc rgb '#dddddd'
set border 1
set tics nomirror out
set ytics scale 0
set format x '%%gx'
set lmargin at screen 0.52
unset key
set style fill solid noborder
plot '%(data)s' using (0.2):0:(0.2):2:($0 - 0.3):($0 + 0.3):ytic(1) with boxxyerror \\
         lc rgb '#7ba7d0', \\
     '' using 3:0:(0):(0.4) with vectors nohead lw 3 lc rgb '#222222', \\
     '' using 3:0:(0):(-0.4) with vectors nohead lw 3 lc rgb '#222222'
"""


@dataclasses.dataclass
class Line:
    """One comparison. ratio: how many times better than what it is compared with."""
    work: str
    ours: str
    beside: str
    ratio: float
    target: float = 0  # the least ratio; 0: for information
    wanted: str = ""  # how the target reads
    row: str = ""

    def met(self):
        return self.ratio >= self.target


def figure(value, unit):
    if value >= 10:
        text = "{:,.0f}".format(value)
    else:
        text = "{:#.3g}".format(value) if value >= 0.001 else "{:.4f}".format(value)
    return "%s %s" % (text.rstrip("."), unit)


def faster(work, unit, ours, name, theirs, target=0):
    """Two rates; ours is to be at least TARGET times theirs."""
    return Line(work, figure(ours, unit), figure(theirs, unit) + ", " + name, ours / theirs,
                target, "at least %g x" % target)


def shorter(work, ours, name, theirs, target=0, wanted=""):
    """Two times in seconds; theirs is to be at least TARGET times ours."""
    return Line(work, figure(ours, "s"), figure(theirs, "s") + ", " + name, theirs / ours,
                target, wanted or "at least %g x" % target)


def limit(work, unit, ours, most):
    """A figure that may be as large as MOST."""
    return Line(work, figure(ours, unit), "", most / max(ours, 1e-9), 1,
                "at most %g %s" % (most, unit))


def table(lines):
    """The table in Markdown, piece by piece."""
    yield "| %s |" % " | ".join(HEAD)
    yield "|%s" % (" --- |" * len(HEAD))
    row = None
    for line in lines:
        cells = [line.row if line.row != row else "", line.work, line.ours, line.beside,
                 ratio_text(line) if line.beside else "",
                 line.wanted if line.target else "",
                 ("yes" if line.met() else "**no**") if line.target else ""]
        row = line.row
        yield "| %s |" % " | ".join(cells)


def ratio_text(line):
    return ("%.0f" if line.ratio >= 100 else "%.2g" if line.ratio < 0.1 else "%.2f") % line.ratio


def plot(lines, out):
    """The lines that have a target, as an SVG."""
    shown = [line for line in lines if line.target]
    data = "plot.tsv"
    with open(data, "w") as file:
        for line in shown:
            file.write("%s: %s\t%g\t%g\n" % (line.row, line.work, min(line.ratio, 1e4),
                                             line.target))
    script = PLOT % {"height": 90 + 22 * len(shown), "count": len(shown), "data": data,
                     "out": "plot.svg"}
    done = subprocess.run(["gnuplot"], input=script, text=True, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failure("gnuplot: " + done.stderr)
    with open("plot.svg") as source, open(out, "w") as target:
        target.write(source.read())


def merged(lines):
    """With those of docs/bench.json whose rows were not measured now."""
    kept = []
    if os.path.exists(STORED):
        with open(STORED) as file:
            kept = [Line(**fields) for fields in json.load(file)]
    now = {line.row: [] for line in lines}
    for line in lines:
        now[line.row].append(line)
    rows = list(dict.fromkeys([line.row for line in kept] + list(now)))
    return [line for row in rows
            for line in now.get(row) or [old for old in kept if old.row == row]]


def write_docs(lines, order):
    """What was measured now replaces what the docs have of these rows."""
    lines = sorted(merged(lines), key=lambda line: order.index(line.row))
    with open(STORED, "w") as file:
        json.dump([dataclasses.asdict(line) for line in lines], file, indent=1)
        file.write("\n")
    plot(lines, os.path.join(DOCS, "bench.svg"))
    with open(os.path.join(DOCS, "bench.md"), "w") as file:
        file.write("# Measured\n\nBy `scripts/bench --docs`, each row in one run; "
                   "[PERFORMANCE.md](PERFORMANCE.md) says what they are.\n\n")
        file.write("\n".join(table(lines)))
        file.write("\n\n![ratios beside targets](bench.svg)\n")
