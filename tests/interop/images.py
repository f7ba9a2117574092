"""Helpers of the interop tests: QEMU's tools, qctool, and a model of what an image holds."""

import concurrent.futures
import os
import subprocess
import sys
import tempfile

QCTOOL = os.environ["QCTOOL"]
TMP = tempfile.mkdtemp(prefix="py.", dir=os.environ.get("TMP", None))


class Failure(Exception):
    """Something is not as it must be."""


def run(*argv, stdin=b"", ok=True):
    """
    Run a program; with ok, it must succeed. A crash is a failure in any case, but for ok=None.
    """
    done = subprocess.run(argv, input=stdin, capture_output=True)
    crashed = done.returncode < 0 or done.returncode > 100
    if (crashed and ok is not None) or (ok and done.returncode != 0):
        text = (done.stdout[-500:] + done.stderr[-3000:]).decode(errors="replace").strip()
        raise Failure("%s: status %d: %s" % (" ".join(argv), done.returncode, text))
    return done


def tool(*argv, stdin=b""):
    """qctool, which must succeed; its output."""
    return run(QCTOOL, *argv, stdin=stdin).stdout


def tool_fails(*argv):
    """qctool, which may fail: the errno's name, or None when it succeeded."""
    done = run(QCTOOL, *argv, ok=False)
    return done.stderr.decode(errors="replace").split(":")[0] if done.returncode else None


def qemu_io(image, commands):
    """
    Run commands of qemu-io on an image, in one process. A compressed write may fail: QEMU
    does not put one over a cluster that is there.
    """
    argv = [arg for command in commands for arg in ("-c", command)]
    compressed = sum(" -c " in command for command in commands)
    done = run("qemu-io", *argv, image, ok=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    lines = [line for line in text.splitlines() if line]
    if (any(line != "write failed: Input/output error" for line in lines)
            or len(lines) > compressed or (done.returncode != 0) != bool(lines)):
        raise Failure("qemu-io %s: %s" % (commands, text))


def check(image):
    """qemu-img check has nothing to say."""
    done = run("qemu-img", "check", image, ok=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0 or "No errors were found" not in text:
        raise Failure("qemu-img check: %s" % text)


def convert(image):
    """The bytes of the disk as QEMU reads them."""
    out = image + ".convert"
    if os.path.exists(out):
        os.unlink(out)
    run("qemu-img", "convert", "-O", "raw", image, out)
    with open(out, "rb") as file:
        return file.read()


def cat(image, *view):
    """The bytes of a view as the engine reads them."""
    return tool("cat", image, *view)


def dump(image):
    """All that qctool dump prints. Much data: not in the small steps of run()."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen([QCTOOL, "dump", image], stdin=subprocess.DEVNULL, stderr=errors,
                              stdout=subprocess.PIPE, pipesize=1 << 20) as process:
            data = process.stdout.read()
        errors.seek(0)
        if process.returncode != 0:
            raise Failure("qctool dump: status %d: %s"
                          % (process.returncode, errors.read().decode(errors="replace")))
    return data


def same(got, wanted, what):
    """Compare two byte strings; say where they part."""
    if got == wanted:
        return
    if len(got) != len(wanted):
        raise Failure("%s: %d bytes instead of %d" % (what, len(got), len(wanted)))
    lo, hi = 0, len(got)
    while hi - lo > 1:  # first difference, by halves
        mid = (lo + hi) // 2
        lo, hi = (lo, mid) if got[lo:mid] != wanted[lo:mid] else (mid, hi)
    raise Failure("%s: differs from byte %#x on (%s instead of %s)"
                  % (what, lo, got[lo:lo + 16].hex(), wanted[lo:lo + 16].hex()))


def data_ranges_ours(image):
    """Where the engine's map has data: a list of (start, end), neighbours joined."""
    rows = [line.split() for line in tool("map", image).decode().splitlines()]
    return join([(int(row[0]), int(row[0]) + int(row[1])) for row in rows
                 if row[2] in ("data", "compressed")])


def data_ranges_qemu(image):
    """Where QEMU's map has data."""
    import json
    rows = json.loads(run("qemu-img", "map", "--output=json", image).stdout)
    return join([(row["start"], row["start"] + row["length"]) for row in rows if row["data"]])


def join(ranges):
    joined = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


class Pattern:
    """Files of bytes for qemu-io's write -s, which repeat nowhere and compress a little."""

    def __init__(self, rng, prefix, count, size):
        self.paths = []
        for i in range(count):
            path = "%s.pattern-%d" % (prefix, i)
            with open(path, "wb") as file:
                file.write(rng.randbytes(size // 2 + 1).hex().encode()[:size])
            self.paths.append(path)

    def pick(self, rng):
        return rng.choice(self.paths)


class Model:
    """What an image must hold: its disk and its snapshots, in the order of the table."""

    def __init__(self, image):
        self.image = image
        self.disk = b""
        self.snapshots = []  # [id, name, bytes]

    def new_id(self):
        """The highest number + 1."""
        return str(max([int(s[0]) for s in self.snapshots], default=0) + 1)

    def took(self, name):
        self.snapshots.append([self.new_id(), name, self.disk])

    def names(self):
        return [s[1] for s in self.snapshots]

    def index(self, name):
        return self.names().index(name)

    def reverted(self, name):
        self.disk = self.snapshots[self.index(name)][2]

    def deleted(self, name):
        del self.snapshots[self.index(name)]

    def renamed(self, old, new):
        self.snapshots[self.index(old)][1] = new

    @staticmethod
    def verify_view(data, at, number, name, wanted):
        """The dump must have this view at this place; the place behind it."""
        head = ("%s %d %s\n" % (number, len(wanted), name)).encode()
        if not data.startswith(head, at):
            raise Failure("%r instead of %r" % (data[at:at + len(head)], head))
        at += len(head)
        if not data.startswith(wanted, at):
            same(data[at:at + len(wanted)], wanted, "snapshot %s" % name if name else "disk")
        return at + len(wanted)

    def verify(self, why):
        """The engine must show exactly this, and QEMU find nothing wrong with the image."""
        try:
            check(self.image)
            data, at = dump(self.image), 0
            for view in [["-", "", self.disk]] + self.snapshots:
                at = self.verify_view(data, at, *view)
            if at != len(data):
                raise Failure("more snapshots: %s" % data[at:at + 80])
        except Failure as failure:
            raise Failure("after %s: %s" % (why, failure)) from None


def attempt_all(attempt, items):
    """
    Call attempt for each item, some at a time (most of the time is spent waiting for
    programs); exit with 1 if any was False.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        results = list(pool.map(attempt, items))
    print("%d of %d passed" % (sum(results), len(results)))
    sys.exit(0 if all(results) else 1)
