"""Running things, timing them, and taking turns."""

import json
import os
import statistics
import subprocess
import sys
import time

MIB = 1 << 20


class Failure(Exception):
    """Something that the bench needs did not work."""


def note(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def run(*argv, **more):
    """Run a command that has to succeed; what it says."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **more)
    if done.returncode != 0:
        raise Failure("%s: %s" % (" ".join(argv), done.stderr.strip() or done.returncode))
    return done.stdout


def shell(command, **more):
    """The same for a line of shell."""
    return run("bash", "-c", "set -o pipefail; " + command, **more)


def seconds(action, *args, **more):
    start = time.perf_counter()
    action(*args, **more)
    return time.perf_counter() - start


def warm(*paths):
    """Bring files into the page cache."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(16 * MIB):
                pass


def evict(path):
    """Take a file out of the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def dd(path, mib):
    """MiB/s of reading the first MIB of a file once, in blocks of 1 MiB."""
    argv = ["dd", "if=" + path, "of=/dev/null", "bs=1M", "count=%d" % mib, "status=none"]
    return mib / seconds(run, *argv)


def fio(path, *options):
    """Requests of 4 KiB per second, direct I/O."""
    out = run("fio", "--name=bench", "--filename=" + path, "--bs=4k", "--direct=1", "--readonly",
              "--ioengine=psync", "--thread", "--group_reporting", "--output-format=json",
              "--allow_file_create=0", *options)
    return json.loads(out[out.index("{"):])["jobs"][0]["read"]["iops"]


def random_reads(path, jobs, duration):
    """After a second in which every side may fill its caches of tables."""
    return fio(path, "--rw=randread", "--numjobs=%d" % jobs, "--time_based", "--ramp_time=1",
               "--runtime=%d" % duration)


def in_turn(sides, times, what, seldom=()):
    """The medians of {name: function that gives a figure}, each called TIMES times, in turn;
    those in SELDOM, which are for information, twice."""
    figures = {name: [] for name in sides}
    for turn in range(times):
        for name, function in sides.items():
            if turn < 2 or name not in seldom:
                figures[name].append(function())
        last = ", ".join("%s %.4g" % (name, values[-1]) for name, values in figures.items())
        note("%s, %d of %d: %s" % (what, turn + 1, times, last))
    return {name: statistics.median(values) for name, values in figures.items()}
