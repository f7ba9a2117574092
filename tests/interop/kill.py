"""kill.py SNAPTREE [quick|full]: kill a command at every system call, and judge what is left.

The program runs under strace, which kills it at its Nth call that has to do with files; N counts
up until the command gets through. Each state that is left must be clean for qemu-img check, and
its disks exactly those of before or of after; and after QEMU has overwritten the whole active
disk, every snapshot must still read the same. The same is done with the daemon in the place of
qctool: then a new one must mount the store, and the next command work.

"full" takes more kinds of images, and does it all again with an I/O error in the place of the
kill: then a command that reports success must have succeeded. There the same is done to qemu-img
snapshot, for comparison; what becomes of that is only printed. (strace counts the calls of each
thread, and qemu-img has several, so not quite all of its calls are met.) Where a kind says so,
only some of the calls are tried: a third the first, a third the last, the others at random.
"""
import concurrent.futures
import os
import random
import shutil
import subprocess
import sys
import time

from images import QCTOOL, TMP, Failure, dump, run, tool

SNAPTREE = sys.argv[1]
FULL = "full" in sys.argv
KILL_AT = "pread64,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate,fcntl,lseek,close,openat2"
FAIL_AT = "pread64,preadv,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate"
# What the daemon does to the disk; its other threads do nothing of this.
DAEMON_AT = "pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate"
ORDEAL = os.path.join(os.path.dirname(QCTOOL), "ordeal")  # makes what QEMU does not
K = 1024
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
    most = None  # calls that are tried
    refused = False

    def __init__(self, name, options, unit=64 * K, narrow=False, backing=False, vm_state=False,
                 compress="-c "):
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

    def __init__(self, name, commands=None, most=48, refused=False):
        super().__init__(name, "")
        self.commands = commands or Kind.commands
        self.most, self.refused = most, refused

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
    Kind("512-r8", "cluster_size=512,refcount_bits=8", compress=""),
    Kind("2m", "cluster_size=2M", unit=512 * K),
    Kind("r2", "refcount_bits=2,cluster_size=4096", narrow=True),
    Kind("r64-zstd", "refcount_bits=64,compression_type=zstd,cluster_size=16K"),
    Kind("backing", "cluster_size=32K", backing=True),
    Kind("vmstate", "compat=1.1", vm_state=True),
    Sample("v3-512-table-full"),  # the refcount table has to grow
    # One more snapshot fills the table's cluster to the last byte.
    Sample("v3-512-slot-last", commands_on("%019d" % 1, "%019d" % 3, "%019d" % 5)),
    Sample("v3-512-thousand", commands_on("000001", "000500", "001000"), most=24),
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


def injected(kind, calls, what, n, argv):
    """Run argv with something injected at its Nth call; its status, None when it had no Nth."""
    status, trace = traced(kind, calls, argv, "-e", "inject=%s:%s:when=%d" % (calls, what, n))
    return status if status in (-9, 137) or "INJECTED" in trace else None


def points(kind, calls, argv):
    """The numbers of the calls to try; they end with the first that is not met."""
    shutil.copyfile(kind.before, kind.image)
    count = traced(kind, calls, argv)[1].count("\n")
    if kind.most is None or count <= kind.most:
        return range(1, 100000)
    third = kind.most // 3
    middle = random.Random(" ".join(argv)).sample(range(third + 1, count - third), kind.most - 2 * third)
    return [*range(1, third + 1), *sorted(middle), *range(count - third + 1, count + 1)]


def experiment(kind, calls, what, argv):
    """Inject everywhere. Returns (states, list of findings)."""
    before, after = views(kind.before), views(kind.after)
    states, findings = 0, []
    for n in points(kind, calls, argv):
        shutil.copyfile(kind.before, kind.image)
        status = injected(kind, calls, what, n, argv)
        if status is None:
            break
        states += 1
        wrong = judge(kind.image, before, after, status == 0)
        if wrong:
            findings.append("%s: %s, %s at call %d: %s" % (kind.name, " ".join(argv[1:]), what, n, wrong))
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


def kill_daemon(kind, words):
    """The daemon killed everywhere in a command; the states, or what is wrong."""
    before, after = views(kind.before), views(kind.after)
    image = os.path.join(kind.dir, "store", "image")
    for n in range(1, 1000):
        os.makedirs(os.path.dirname(image), exist_ok=True)
        shutil.copyfile(kind.before, image)
        if kind.backing:
            shutil.copyfile(os.path.join(kind.dir, "base"), os.path.join(kind.dir, "store", "base"))
        strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + DAEMON_AT, "-e",
                  "inject=%s:signal=SIGKILL:when=%d" % (DAEMON_AT, n)]
        process, mount = mounted(kind, strace)
        done = say(mount, words)
        unmount(process, mount)
        if done:
            return n - 1
        copy = os.path.join(kind.dir, "judged")
        shutil.copyfile(image, copy)
        wrong = judge(copy, before, after, False)
        if wrong:
            raise Failure("%s: %s, daemon killed at call %d: %s" % (kind.name, words, n, wrong))
        process, mount = mounted(kind)
        if not say(mount, "take next"):
            raise Failure("%s: %s, daemon killed at call %d: the next does not work"
                          % (kind.name, words, n))
        unmount(process, mount)
        run("qemu-img", "check", image)
    raise Failure("it is never done")


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
