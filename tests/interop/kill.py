"""kill.py SNAPTREE [quick|full]: kill a command at every system call, and judge what is left.

The program runs under strace, first to see what calls it makes on the image, then once for each
of them: there strace kills it, before the call is made. Each state that is left must be clean for
qemu-img check, and its disks exactly those of before or of after; and after QEMU has overwritten
the whole active disk, every snapshot must still read the same. The same is done with the daemon in
the place of qctool: then a new one must mount the store, and the next command work.

strace counts each kind of call, of each thread, for itself. So a call is named by its kind and by
its number among those of that kind.

"full" takes more kinds of images, and does it all again with an I/O error in the place of the
kill: then a command that reports success must have succeeded. There the same is done to qemu-img
snapshot, for comparison; what becomes of that is only printed. (qemu-img has several threads, and
which of them makes a call is not always the same, so not quite all of its calls are met.) Where a
kind says so, only some of the calls are tried that do not change the file, and only some of all
that qemu-img makes: a third the first, a third the last, the others at random.
"""
import collections
import concurrent.futures
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time

from images import QCTOOL, TMP, Failure, dump, run, tool

SNAPTREE = sys.argv[1]
FULL = "full" in sys.argv
KILL_AT = "pread64,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate,fcntl,lseek,close,openat2"
FAIL_AT = "pread64,preadv,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate"
# What changes the file. Of the daemon's threads only the one with the command does any of this.
CHANGES = "pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate"
ORDEAL = os.path.join(os.path.dirname(QCTOOL), "ordeal")  # makes what QEMU does not
K = 1024
TRIES = 3
TAKE = (["take", "fresh"], ["-c", "fresh"])


def commands_on(old, middle, new):
    """Of three snapshots; the middle one of a larger disk, where the version can."""
    return [
        TAKE,
        (["revert", old], ["-a", old]),
        (["revert", middle], ["-a", middle]),
        (["delete", old], ["-d", old]),
        (["delete", middle], ["-d", middle]),
        (["delete", new], ["-d", new]),
        (["rename", old, "older"], None),
    ]


class Kind:
    """A kind of image, in a directory of its own."""

    commands = commands_on("old", "middle", "new")
    refused = False
    theirs = None  # calls of qemu-img that are tried

    def __init__(self, name, options, unit=64 * K, narrow=False, backing=False, vm_state=False,
                 compress="-c ", most=None):
        self.most = most  # calls that do not change the file, of which so many are tried
        self.name, self.options, self.unit = name, options, unit
        self.narrow, self.backing, self.vm_state = narrow, backing, vm_state
        self.compress = compress
        self.dir = os.path.join(TMP, name)
        self.before, self.after, self.image = [os.path.join(self.dir, name) for name in
                                               ("before", "after", "image")]

    def write(self, *commands):
        argv = [arg for command in commands for arg in ("-c", "write -q " + command)]
        run("qemu-io", "-f", "qcow2", *argv, self.before)

    def extent(self, first, count):
        return "%d %d" % (first * self.unit, count * self.unit)

    def snapshot(self, name):
        run("qemu-img", "snapshot", "-c", name, self.before)

    def save_vm(self, name):
        """A snapshot with the memory of a VM."""
        run("qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine",
            "pc,accel=tcg", "-m", "16", "-monitor", "stdio", "-drive",
            "file=%s,format=qcow2,if=virtio" % self.before, stdin=b"savevm %s\nquit\n" % name)

    def make(self):
        os.mkdir(self.dir)
        backing = []
        if self.backing:
            base = os.path.join(self.dir, "base")
            run("qemu-img", "create", "-q", "-f", "qcow2", base, str(40 * self.unit))
            run("qemu-io", "-f", "qcow2", "-c", "write -q -P 77 0 %d" % (40 * self.unit), base)
            backing = ["-b", "base", "-F", "qcow2"]
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", self.options, *backing, self.before,
            str(32 * self.unit))
        if self.narrow:
            return self.fill_narrow()
        self.write("-P 1 " + self.extent(0, 8), "-P 2 %d %d" % (24 * self.unit, 300 * K))
        self.snapshot("old")
        self.write("-P 3 " + self.extent(4, 8),
                   self.compress + "-P 4 " + self.extent(16, self.whole()))
        if "compat=0.10" not in self.options:
            run("qemu-img", "resize", "-q", self.before, str(36 * self.unit))
        if self.vm_state:
            self.save_vm(b"middle")
        else:
            self.snapshot("middle")
        self.write("-P 5 " + self.extent(2, 4),
                   self.compress + "-P 8 " + self.extent(20, self.whole()))
        self.snapshot("new")
        self.write("-P 6 %d %d" % (100 * K, 200 * K), "-z -u " + self.extent(24, 1))
        return None

    def whole(self):
        """Units in a cluster, to compress."""
        return max(1, 2048 * K // self.unit) if "cluster_size=2M" in self.options else 1

    def fill_narrow(self):
        """Few may share a cluster: all is written anew for each snapshot."""
        for i, name in enumerate(("old", "middle", "new")):
            self.write("-P %d " % (i + 1) + self.extent(0, 8))
            self.snapshot(name)
        self.write("-P 9 " + self.extent(0, 8))


class Sample(Kind):
    """One of tests/support/samples.c."""

    def __init__(self, name, commands=None, most=48, refused=False, theirs=None):
        super().__init__(name, "", most=most)
        self.theirs = theirs
        self.commands = commands or Kind.commands
        self.refused = refused

    def make(self):
        os.mkdir(self.dir)
        run(ORDEAL, "write", self.dir, self.name)
        os.rename(os.path.join(self.dir, self.name + ".qcow2"), self.before)


KINDS = [
    Kind("v3", "compat=1.1"),
    Kind("v2-4k", "compat=0.10,cluster_size=4096"),
]
MORE_KINDS = [
    Kind("extl2-lazy", "extended_l2=on,lazy_refcounts=on"),
    # Not compressed: so many small ones share a cluster that 8 bits cannot count them.
    Kind("512-r8", "cluster_size=512,refcount_bits=8", compress="", most=48),
    Kind("2m", "cluster_size=2M", unit=512 * K),
    Kind("r2", "refcount_bits=2,cluster_size=4096", narrow=True),
    Kind("r64-zstd", "refcount_bits=64,compression_type=zstd,cluster_size=16K"),
    Kind("backing", "cluster_size=32K", backing=True),
    Kind("vmstate", "compat=1.1", vm_state=True),
    Sample("v3-512-table-full"),  # the refcount table has to grow
    # One more snapshot fills the table's cluster to the last byte.
    Sample("v3-512-slot-last", commands_on("%019d" % 1, "%019d" % 3, "%019d" % 5)),
    Sample("v3-512-thousand", commands_on("000001", "000500", "001000"), most=24, theirs=48),
    Sample("v3-512-empty", [TAKE], most=None),  # no snapshots
    Sample("v3-512-1bit", [(TAKE[0], None)], most=None, refused=True),
]


# ---- judging ----

def views(image):
    """The disk, and what each snapshot holds, whatever ids they have."""
    data, at, found = dump(image), 0, {}
    while at < len(data):
        line_end = data.index(b"\n", at)
        _, size, name = data[at:line_end].decode().split(" ", 2)
        at = line_end + 1 + int(size)
        found[name] = hash(data[line_end + 1:at])
    return found


def judge(image, before, after, success):
    """What is wrong with the state, or None."""
    status = run("qemu-img", "check", "-q", image, ok=False).returncode
    if status != 0:
        return "check: " + {2: "corrupt", 3: "leaks"}.get(status, "cannot check")
    try:
        now = views(image)
    except Failure:
        return "cannot be read"
    if now not in (before, after):
        return "neither before nor after"
    if success and now != after:
        return "said to be done, and is not"
    size = int(run("qemu-img", "info", "--output=json", image).stdout.split(
        b'"virtual-size": ')[1].split(b",")[0])
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 99 0 %d" % size, image)
    now.pop("")
    later = views(image)
    later.pop("")
    return None if later == now else "a guest's writes changed a snapshot"


def traced(kind, calls, argv, *inject):
    """Run argv; its status and what strace has seen of the calls that have to do with the image."""
    trace = os.path.join(kind.dir, "trace")
    done = run("strace", "-f", "-qq", "-o", trace, "-P", kind.image, "-e", "trace=" + calls,
               *inject, *argv, ok=None)
    with open(trace, errors="replace") as file:
        return done.returncode, file.read()


def injection(place, what):
    """The option for strace: something happens at a call that calls_in() found."""
    return "inject=%s:%s:when=%d" % (place[0], what, place[1])


def injected(kind, calls, what, place, argv):
    """
    Run argv on a fresh copy with something injected at a call; its status. An image that is two
    seconds old when it is opened, on a machine that stood still, is asked about its locks once
    more, or once less: then it is tried again. None: there is no such call.
    """
    for _ in range(TRIES if argv[0] == QCTOOL else 1):
        shutil.copyfile(kind.before, kind.image)
        status, trace = traced(kind, calls, argv, "-e", injection(place, what))
        if status in (-9, 137) or "INJECTED" in trace:
            return status
    return None


def calls_in(trace):
    """The calls in what strace wrote, each as (kind, number), in order."""
    counts, found = collections.Counter(), {}
    for thread_and_name in re.findall(r"^(\d+ +(\w+))\(", trace, re.MULTILINE):
        counts[thread_and_name] += 1
        found[thread_and_name[1], counts[thread_and_name]] = True
    return list(found)


def some(places, most, seed):
    if most is None or len(places) <= most:
        return places
    third = most // 3
    middle = random.Random(seed).sample(places[third:-third], most - 2 * third)
    return places[:third] + middle + places[-third:]


def calls_made(kind, calls, argv):
    """Those that argv makes; ours the same twice, for the reason that injected() gives."""
    before = None
    for _ in range(2 * TRIES):
        shutil.copyfile(kind.before, kind.image)
        found = calls_in(traced(kind, calls, argv)[1])
        if found == before or argv[0] != QCTOOL:
            return found
        before = found
    raise Failure("%s: %s makes other calls each time" % (kind.name, " ".join(argv[1:])))


def points(kind, calls, argv):
    """The calls to try: all that change the file, and some of the others."""
    found = calls_made(kind, calls, argv)
    if argv[0] != QCTOOL and kind.theirs:
        return some(found, kind.theirs, " ".join(argv))
    changes = [place for place in found if place[0] in CHANGES.split(",")]
    others = [place for place in found if place not in changes]
    return changes + some(others, kind.most, " ".join(argv))


def experiment(kind, calls, what, argv):
    """Inject everywhere. Returns (states, list of findings)."""
    before, after = views(kind.before), views(kind.after)
    states, findings, judged = 0, [], {}
    for place in points(kind, calls, argv):
        status = injected(kind, calls, what, place, argv)
        if status is None and argv[0] == QCTOOL:
            raise Failure("%s: %s has no %s %d" % (kind.name, " ".join(argv[1:]), *place))
        if status is None:
            continue
        states += 1
        with open(kind.image, "rb") as file:  # of most calls the same is left
            state = hashlib.sha256(file.read()).digest(), status == 0
        if state not in judged:
            judged[state] = judge(kind.image, before, after, status == 0)
        if judged[state]:
            findings.append("%s: %s, %s at %s %d: %s" % (kind.name, " ".join(argv[1:]), what,
                                                         *place, judged[state]))
    return states, findings


# ---- the daemon ----

def mounted(kind, prefix=()):
    """A daemon that serves the directory of the kind, when the mount is there."""
    mount = os.path.join(kind.dir, "mnt")
    store = os.path.join(kind.dir, "store")
    for path in (mount, store):
        os.makedirs(path, exist_ok=True)
    process = subprocess.Popen([*prefix, SNAPTREE, "-f", store, mount], stderr=subprocess.DEVNULL)
    while not os.path.ismount(mount):
        if process.poll() is not None:
            raise Failure("the daemon does not start")
        time.sleep(0.005)
    return process, mount


def unmount(process, mount):
    """Whatever is left of a mount; the process may be dead."""
    run("umount", "-l", mount, ok=False)
    process.wait()


def say(mount, words):
    """A command through the control file; whether it went well."""
    return subprocess.run(["bash", "-c", "echo %s >%s/image/control" % (words, mount)],
                          capture_output=True).returncode == 0


def daemon_on(kind, *inject):
    """A daemon under strace, on the image as it was before; it, its mount, its image, the trace."""
    store, trace = os.path.join(kind.dir, "store"), os.path.join(kind.dir, "trace")
    image = os.path.join(store, "image")
    os.makedirs(store, exist_ok=True)
    shutil.copyfile(kind.before, image)
    if kind.backing:
        shutil.copyfile(os.path.join(kind.dir, "base"), os.path.join(store, "base"))
    strace = ["strace", "-D", "-f", "-qq", "-o", trace, "-e", "trace=" + CHANGES, *inject]
    return *mounted(kind, strace), image, trace


def daemon_calls(kind, words):
    """The calls that change the file in a command."""
    process, mount, _, trace = daemon_on(kind)
    done = say(mount, words)
    unmount(process, mount)
    if not done:
        raise Failure("%s: %s does not work" % (kind.name, words))
    with open(trace) as file:
        return calls_in(file.read())


def kill_daemon(kind, words):
    """The daemon killed everywhere in a command; the states, or what is wrong."""
    before, after = views(kind.before), views(kind.after)
    places = daemon_calls(kind, words)
    for place in places:
        what = "%s: %s, daemon killed at %s %d" % (kind.name, words, *place)
        process, mount, image, _ = daemon_on(kind, "-e", injection(place, "signal=SIGKILL"))
        done = say(mount, words)
        unmount(process, mount)
        if done:
            raise Failure("%s: it was not" % what)
        copy = os.path.join(kind.dir, "judged")
        shutil.copyfile(image, copy)
        wrong = judge(copy, before, after, False)
        if wrong:
            raise Failure("%s: %s" % (what, wrong))
        process, mount = mounted(kind)
        if not say(mount, "take next"):
            raise Failure("%s: the next does not work" % what)
        unmount(process, mount)
        run("qemu-img", "check", image)
    return len(places)


# ---- all of it ----

class Tally:
    """Figures of one kind of image."""

    def __init__(self):
        self.ours = {"signal=SIGKILL": 0, "error=EIO": 0}
        self.theirs = {"signal=SIGKILL": 0, "error=EIO": 0}
        self.damaged = {"signal=SIGKILL": 0, "error=EIO": 0}
        self.daemon = 0


def try_command(kind, tally, command, qemu):
    verb, *names = command
    shutil.copyfile(kind.before, kind.after)
    if kind.refused:
        run(QCTOOL, verb, kind.after, *names, ok=False)
        if views(kind.after) != views(kind.before):
            raise Failure("%s: %s is not refused" % (kind.name, verb))
    else:
        tool(verb, kind.after, *names)
    ways = [(KILL_AT, "signal=SIGKILL")] + ([(FAIL_AT, "error=EIO")] if FULL else [])
    for calls, what in ways:
        states, findings = experiment(kind, calls, what, [QCTOOL, verb, kind.image, *names])
        if findings:
            raise Failure("\n".join(findings))
        if states < 8 and not kind.refused:
            raise Failure("%s %s: only %d calls" % (kind.name, command, states))
        tally.ours[what] += states
        if FULL and qemu:
            states, findings = experiment(kind, calls, what,
                                          ["qemu-img", "snapshot", *qemu, kind.image])
            tally.theirs[what] += states
            tally.damaged[what] += len(findings)
    if kind.refused:
        return
    if FULL or verb in ("take", "revert") and names != ["middle"] and kind is KINDS[0]:
        tally.daemon += kill_daemon(kind, " ".join(command))


def try_kind(kind):
    tally = Tally()
    kind.make()
    for command, qemu in kind.commands:
        try_command(kind, tally, command, qemu)
    if FULL:
        kill, fail = "signal=SIGKILL", "error=EIO"
        print("%s: killed %d, the daemon %d, qemu-img %d: %d damaged; errors %d, qemu-img %d: "
              "%d damaged" % (kind.name, tally.ours[kill], tally.daemon, tally.theirs[kill],
                              tally.damaged[kill], tally.ours[fail], tally.theirs[fail],
                              tally.damaged[fail]), flush=True)
    return tally


def main():
    try:
        with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            tallies = list(pool.map(try_kind, KINDS + (MORE_KINDS if FULL else [])))
    except Failure as failure:
        sys.exit("FAIL %s" % failure)
    for what, text in (("signal=SIGKILL", "killed at"), ("error=EIO", "EIO at")):
        ours, theirs, damaged = [sum(getattr(tally, name)[what] for tally in tallies)
                                 for name in ("ours", "theirs", "damaged")]
        if ours:
            print("snaptree: %s %d system calls, all states clean, before or after" % (text, ours))
        if theirs:
            print("qemu-img: %s %d system calls, %d states damaged" % (text, theirs, damaged))
    print("daemon: killed at %d system calls, all states clean, before or after"
          % sum(tally.daemon for tally in tallies))


main()
