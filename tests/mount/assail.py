"""Read and change everything in a mounted store of hostile images: assail.py MNT STORE EXPECTATIONS SCRATCH PID

EXPECTATIONS is what hostile.py printed. Each image must be what it says there, every file of it must
give bytes or an error, and every command must be refused and leave the file as it was, or be done and
leave QEMU with nothing to say that it did not say before. No operation may hang. All the while
other images are read, and must be what they are.

PID is the process that serves the tree. What it works for an operation is bounded in its processor time,
of all its threads, which depends little on what else the machine does; how long the operation took is
printed. Prints the slowest operations, and what was wrong.
"""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

MNT, STORE, EXPECTATIONS, SCRATCH, PID = sys.argv[1:6]
SLOW = 1 if not os.environ.get("SANITIZED") else 60 # a sanitizer, where new memory is dear
LIMIT = 2 * SLOW  # seconds of the processor, with the readers beside it
HANG = max(60, LIMIT * 2)  # seconds on the clock
QEMU_LIMIT = 4  # seconds of the processor for qemu-img check, which does not end for some
WHOLE = 16 << 20  # files up to this size are read in full
STEPS = 12  # of a walk over data and holes
COMMANDS = b"take new", b"rename s t", b"revert s", b"delete s", b"check", b"repair"

failures = []
times = []


def worked():
    """Seconds of the processor that the daemon has used."""
    with open("/proc/%s/stat" % PID) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(function, *args):
    """The result, or the errno's name; what the daemon worked for it, and how long it took."""
    begin, work = time.monotonic(), worked()
    try:
        result = function(*args)
    except OSError as error:
        result = errno.errorcode[error.errno]
    return result, worked() - work, time.monotonic() - begin


def timed(what, function, *args, repeat=True):
    """The result. What took too long is done again: a cache full of others' data makes work longer too."""
    result, work, seconds = call(function, *args)
    for _ in range(2 if repeat and LIMIT < work < 2 * LIMIT else 0):
        work = min(work, call(function, *args)[1])
    times.append((work, seconds, what))
    if work > LIMIT or seconds > HANG:
        failures.append("%s took %.2f s of the processor, %.1f s in all" % (what, work, seconds))
    return result


def check(name, what, ok):
    if not ok:
        failures.append("%s: %s" % (name, what))


def read_at(path, offset, length=4096):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


# ---- reading ----

def check_error(name, where):
    check(name, "there is a disk", not os.path.lexists(where + "/disk"))
    if not os.path.exists(where + "/error"):
        return check(name, "there is no error: %s" % os.listdir(where), False)
    text = open(where + "/error", errors="replace").read()
    check(name, "error is %r" % text, len(text) > 10 and text.count("\n") == 1 and text.endswith("\n"))


def check_places(name, where, bad, good):
    check(name, "reading the broken place", timed(name, read_at, where + "/disk", int(bad)) == "EIO")
    if good != "-":
        got = timed(name, read_at, where + "/disk", int(good))
        check(name, "reading the sound place: %r" % got[:20], got == b"\1" * 4096)


def check_bytes(name, path, size):
    """All of a small file, three places of a large one. What the engine does not know is ENOTSUP."""
    step = 1 << 20
    offsets = range(0, size, step) if size <= WHOLE else {0, size // 2, size - 4096}
    for offset in offsets:
        got = timed("%s: reading %s" % (name, path), read_at, path, offset, step)
        check(name, "%s at %d: %r" % (path, offset, got), isinstance(got, bytes) or got in ("EIO", "ENOTSUP"))
        if not isinstance(got, bytes):
            break


def check_holes(name, path):
    """Data and holes follow each other, each search from where the last one ended."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return
    at, what = 0, os.SEEK_DATA
    for _ in range(STEPS):
        found = timed("%s: searching in %s" % (name, path), os.lseek, fd, at, what)
        if not isinstance(found, int):
            check(name, "searching %s from %d: %s" % (path, at, found), found in ("ENXIO", "EIO", "ENOTSUP"))
            break
        check(name, "%s: from %d back to %d" % (path, at, found), found >= at)
        at, what = found, os.SEEK_HOLE if what == os.SEEK_DATA else os.SEEK_DATA
    os.close(fd)


def copy(name, path):
    """As cp does it: it may fail, and must end."""
    target = os.path.join(SCRATCH, "copy")
    timed("%s: copying" % name, subprocess.run, ["cp", "--sparse=always", path, target],
          -1, None, None, subprocess.DEVNULL, subprocess.DEVNULL)
    if os.path.exists(target):
        os.unlink(target)


def check_readable(name, where):
    for root, _, files in os.walk(where):
        for file in sorted(files)[:20]:
            path = os.path.join(root, file)
            size = os.stat(path).st_size
            check_bytes(name, path, size)
            if file == "disk" or root.endswith("snapshots"):
                check_holes(name, path)
    if os.path.exists(where + "/disk") and os.stat(where + "/disk").st_size <= WHOLE:
        copy(name, where + "/disk")


def check_layer(name, where):
    """Its own layer is the disk that it was made from."""
    layer = "%s/layers/0-%s" % (where, name)
    if not os.path.exists(layer):
        return check(name, "there is no layer: %s" % os.listdir(where + "/layers"), False)
    with open(layer, "rb") as file, open(MNT + "/good.qcow2/layers/0-good.qcow2", "rb") as good:
        check(name, "the layer is another", file.read() == good.read())


def check_image(name, expectation):
    where = os.path.join(MNT, name)
    if not os.path.isdir(where):
        return check(name, "is not shown", False)
    if expectation in ("error", "layers"):
        check_error(name, where)
    if expectation == "layers":
        check_layer(name, where)
    elif expectation.startswith("eio"):
        check_places(name, where, *expectation.split(":")[1:])
    elif expectation == "harmless":
        check(name, "there is an error", not os.path.exists(where + "/error"))
    check_readable(name, where)


# ---- commands ----

def write_command(control, line):
    fd = os.open(control, os.O_WRONLY)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)
    return 0


def digest(path):
    """Of the file's bytes, its holes left out, and its length."""
    result = hashlib.sha256()
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = file.seek(at, os.SEEK_DATA)
            except OSError:
                break
            hole = file.seek(at, os.SEEK_HOLE)
            file.seek(at)
            while at < hole:
                data = file.read(min(hole - at, 1 << 20))
                result.update(b"%d" % at + data)
                at += len(data)
    return result.hexdigest(), end


def faults(path):
    """
    Corruptions and leaks that QEMU counts; None where QEMU itself cannot tell, or where its time is
    not worth it: a sanitizer is there for the daemon, and other builds write the same.
    """
    if SLOW > 1:
        return None
    done = subprocess.run(["prlimit", "--cpu=%d" % QEMU_LIMIT, "qemu-img", "check", "--output=json", path], capture_output=True)
    if done.returncode not in (0, 2, 3):
        return None
    report = json.loads(done.stdout)
    return report.get("corruptions", 0), report.get("leaks", 0)


def sparse_copy(source, target):
    subprocess.run(["cp", "--sparse=auto", source, target], check=True)


def judge(name, text, result, old, path):
    """A command changed the file, in which QEMU counted the old faults before."""
    what = "%s: %s (%s)" % (name, text.decode(), result)
    if result != 0:
        failures.append("%s failed and changed the file" % what)
    check(name, "%s changes the file" % text.decode(), text != b"check")
    if text == b"repair" and result == 0:
        again = timed("%s: check after repair" % name, write_command, os.path.join(MNT, name, "control"), b"check\n")
        check(name, "check after repair: %s" % again, again == 0)
    if not old:
        return
    new = faults(path)
    if not new or new[0] > old[0] or new[1] > old[1]:
        failures.append("%s: (corruptions, leaks) were %s and are %s" % (what, old, new))


def try_commands(name):
    """Each on the image as it was."""
    path, before, again = os.path.join(STORE, name), os.path.join(SCRATCH, "before"), os.path.join(SCRATCH, "again")
    sparse_copy(path, before)
    was, known, old = digest(path), False, None
    for text in COMMANDS:
        what = "%s: %s" % (name, text.decode())
        result = timed(what, write_command, os.path.join(MNT, name, "control"), text + b"\n",
                       repeat=text == b"check")
        if digest(path) != was:
            if not known:
                known, old = True, faults(before)
            judge(name, text, result, old, path)
            sparse_copy(before, again)
            os.replace(again, path)
            was = digest(path)


# ---- the others, all the while ----

class Neighbour(threading.Thread):
    """Reads a sound image again and again."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.paths = [os.path.join(MNT, name, file) for file in ("disk", "snapshots/s")]
        self.wanted = [open(path, "rb").read() for path in self.paths]
        self.ended, self.reads, self.slowest = False, 0, 0.0

    def run(self):
        while not self.ended:
            for path, wanted in zip(self.paths, self.wanted):
                begin = time.monotonic()
                try:
                    got = open(path, "rb").read()
                except OSError as error:
                    got = error
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.reads += 1
                check("the image beside it", "%s reads otherwise: %r" % (path, got[:20] if got else got), got == wanted)
            time.sleep(0.5)

    def finish(self):
        self.ended = True
        self.join()
        check("the image beside it", "was read %d times" % self.reads, self.reads > 10)
        print("beside all that, %d reads of 4 MiB of a sound image took at most %.2f s" % (self.reads, self.slowest))


def main():
    images = [line.split() for line in open(EXPECTATIONS)]
    sound = [name for name, expectation in images if expectation == "harmless" and name.endswith(".qcow2")]
    were = [(digest(os.path.join(STORE, name)), faults(os.path.join(STORE, name))) for name in sound]
    neighbour = Neighbour("good.qcow2")
    neighbour.start()
    for name, expectation in images:
        check_image(name, expectation)
    for name, expectation in images:
        # Backing files that cannot be had are none of a command's business.
        if expectation != "harmless" and not name.startswith(("backing", "loop")):
            try_commands(name)
    neighbour.finish()
    are = [(digest(os.path.join(STORE, name)), faults(os.path.join(STORE, name))) for name in sound]
    check("the sound images", "were %s and are %s" % (were, are), were == are)
    print("%d operations on %d images; the slowest:" % (len(times), len(images)))
    for work, seconds, what in sorted(times, reverse=True)[:5]:
        print("    %.2f s of the processor, %.2f s in all  %s" % (work, seconds, what.replace(MNT, "MNT")))
    print("    (the longest of all: %.2f s)" % max(seconds for _, seconds, _ in times))
    print("\n".join(failures))
    return 1 if failures else 0


sys.exit(main())
