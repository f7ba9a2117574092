"""lockmatrix.py SNAPTREE: who may do what while somebody else holds an image.

Every program of QEMU that opens images, by itself and through an overlay, in both orders: they
hold the image and we come, we hold it and they come. Programs that end by themselves are
stopped in the middle, where their locks are those that the table says.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from images import QCTOOL, TMP, Failure, check, run, tool

SNAPTREE = sys.argv[1]
STORE, MOUNT = os.path.join(TMP, "store"), os.path.join(TMP, "mnt")
X, O = os.path.join(STORE, "x.qcow2"), os.path.join(STORE, "o.qcow2")
NBD = os.path.join(TMP, "nbd")
OUT = os.path.join(TMP, "out")
MOST = 60  # seconds, before something hangs

# What QEMU's programs hold on x.qcow2; the bytes are explained in docs/ARCHITECTURE.md.
INFO = {201, 203}
READS = {100, 201, 203}
WRITES = {100, 101, 103, 201, 203}
SHARES = {100}
NOTHING = set()


class Row:
    """A program, what it holds on x.qcow2 (so that is what we may do), how it is started."""

    def __init__(self, locks, *argv, opens=None, stays=False, brief=None):
        self.locks, self.argv, self.stays = locks, list(argv), stays
        self.opens = opens or X     # the image on its command line
        self.brief = brief or self.argv  # the same, but it ends by itself
        self.name = " ".join(word.replace(STORE + "/", "") for word in self.argv)

    def writes(self):
        return 101 in self.locks

    def excludes(self):
        """Whether our commands are kept out."""
        return bool(self.locks - {100})


def img(locks, *argv, image=X):
    return Row(locks, "qemu-img", *argv, opens=image)


def io(locks, *options, image=X):
    argv = ["qemu-io", "-f", "qcow2", *options, image]
    return Row(locks, *argv, opens=image, stays=True, brief=argv + ["-c", "read -q 0 512"])


def nbd(locks, *options, image=X):
    argv = ["qemu-nbd", "-f", "qcow2", "-t", "-k", NBD, *options, image]
    return Row(locks, *argv, opens=image, stays=True)


def vm(locks, options="", image=X):
    argv = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine",
            "pc,accel=tcg", "-m", "16", "-monitor", "stdio", "-drive",
            "file=%s,format=qcow2,if=virtio%s" % (image, options)]
    return Row(locks, *argv, opens=image, stays=True)


ROWS = [
    img(INFO, "info", X),
    img(NOTHING, "info", "-U", X),
    img(READS, "check", X),
    img(SHARES, "check", "-U", X),
    img(READS, "snapshot", "-l", X),
    img(SHARES, "snapshot", "-U", "-l", X),
    img(READS, "map", X),
    img(SHARES, "map", "-U", X),
    img(READS, "convert", "-O", "raw", X, OUT),
    img(SHARES, "convert", "-U", "-O", "raw", X, OUT),
    img(WRITES, "check", "-r", "all", X),
    img(WRITES, "snapshot", "-c", "theirs", X),
    img(WRITES, "snapshot", "-a", "old", X),
    img(WRITES, "snapshot", "-d", "old", X),
    img(WRITES, "resize", "-q", X, "+1M"),
    img(WRITES, "amend", "-o", "lazy_refcounts=on", X),
    io(WRITES), io(READS, "-r"), io(SHARES, "-r", "-U"),
    nbd(WRITES), nbd(READS, "-r"),
    vm(WRITES), vm(READS, ",readonly=on"),
    # x.qcow2 as the backing file of the image that they open
    img(READS, "check", O, image=O),
    img(SHARES, "check", "-U", O, image=O),
    img(READS, "map", O, image=O),
    img(READS, "convert", "-O", "raw", O, OUT, image=O),
    img(SHARES, "convert", "-U", "-O", "raw", O, OUT, image=O),
    img(WRITES, "commit", "-q", O, image=O),
    io(READS, image=O), io(READS, "-r", image=O), io(SHARES, "-r", "-U", image=O),
    nbd(READS, image=O), nbd(READS, "-r", image=O),
    vm(READS, image=O), vm(READS, ",readonly=on", image=O),
]


# ---- processes ----

def wait_until(condition, what):
    end = time.monotonic() + MOST
    while not condition():
        if time.monotonic() > end:
            raise Failure("gave up waiting for %s" % what)
        time.sleep(0.005)


def locks_on(path):
    """The bytes of a file that have a lock of QEMU's kind, whoever holds it."""
    st = os.stat(path)
    key = "%02x:%02x:%d" % (os.major(st.st_dev), os.minor(st.st_dev), st.st_ino)
    held = set()
    with open("/proc/locks") as file:
        for words in map(str.split, file):
            if words[1] == "OFDLCK" and words[5] == key:
                held |= set(range(int(words[6]), int(words[7]) + 1))
    return held


def has_open(pid, path):
    """Whether a process, which may open, close and end meanwhile, has the file open."""
    fds = "/proc/%d/fd" % pid
    wanted = os.stat(path)

    def is_it(fd):
        try:
            return os.path.samestat(os.stat(os.path.join(fds, fd)), wanted)
        except FileNotFoundError:
            return False

    try:
        return any(map(is_it, os.listdir(fds)))
    except FileNotFoundError:
        return False


class Process:
    """A program, a group of processes, that is ended when the block is left, stopped or not."""

    def __init__(self, argv, **environment):
        self.log = open(os.path.join(TMP, "log"), "w+b")
        self.popen = subprocess.Popen(argv, process_group=0, stdin=subprocess.PIPE, stdout=self.log,
                                      stderr=subprocess.STDOUT, env=os.environ | environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.signal(signal.SIGKILL)
            self.popen.wait()
        self.popen.stdin.close()
        self.log.close()

    def signal(self, number):
        os.killpg(self.popen.pid, number)

    def ended(self):
        return self.popen.poll() is not None

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


class Stopped(Process):
    """A program that is stopped at its Nth call of a kind that has to do with the paths."""

    def __init__(self, argv, calls, paths, n):
        self.trace = os.path.join(TMP, "trace")
        open(self.trace, "w").close()
        # -D: strace is the child, so that the process is the program itself.
        strace = ["strace", "-D", "-f", "-qq", "-o", self.trace, "-e", "trace=" + calls, "-e",
                  "inject=%s:signal=SIGSTOP:when=%d" % (calls, n)]
        for path in paths:
            strace += ["-P", path]
        # Nor can a program look for leaks that strace looks at.
        asan = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        super().__init__(strace + argv, ASAN_OPTIONS=asan)

    def has_stopped(self):
        with open(self.trace) as file:
            return "stopped by SIGSTOP" in file.read()

    def go_on(self, well=True):
        """To its end, which must be a good one if well. strace counts the calls of each thread: every
        one of them may stop once."""
        def continued():
            if not self.ended():
                self.signal(signal.SIGCONT)
            return self.ended()
        wait_until(continued, "the end of a stopped program")
        if well and self.popen.returncode != 0:
            raise Failure("stopped and continued, it failed: %s" % self.output())


def stopped_once(argv, calls, paths, condition, seen):
    """The program, stopped at the first such call at which the condition holds; None: at none."""
    for n in range(1, 60):
        process = Stopped(argv, calls, paths, n)
        wait_until(lambda: process.has_stopped() or process.ended(), "a stop")
        if not process.ended() and condition(process):
            return process
        with process:
            if process.ended():
                break
            seen.append(sorted(locks_on(X)))
    return None


def stopped_where(argv, calls, paths, condition):
    """The same, tried a few times: strace counts the calls of each thread, and which thread of
    QEMU's makes one is chance."""
    seen = []
    for _ in range(5):
        process = stopped_once(argv, calls, paths, condition, seen)
        if process:
            return process
    raise Failure("it holds %s, and never what it should" % seen)


def holder(row):
    """The row's program, in the middle of its work, with its locks on x.qcow2."""
    def holds(process):
        held = locks_on(X)
        if row.locks <= {100}: # with -U, some of its opens hold nothing
            return held <= row.locks and has_open(process.popen.pid, X)
        return held == row.locks
    if not row.stays:
        calls = "pwrite64" if "commit" in row.argv else "pread64,preadv"
        return stopped_where(row.argv, calls, {X, row.opens}, holds)
    process = Process(row.argv)
    wait_until(lambda: process.ended() or holds(process), "locks of %s" % row.name)
    if process.ended():
        raise Failure(process.output())
    return process


def release(row, process):
    if row.stays:
        process.__exit__()
    else:
        # A check that lets others write meanwhile finds what no state of the image has.
        process.go_on(well=row.argv[1:3] != ["check", "-U"])


# ---- the store ----

def fresh():
    """New copies of the images under their names; other files, for who has them open."""
    for path in (X, O):
        shutil.copyfile(path + ".made", path + ".copy")
        os.replace(path + ".copy", path)


def make_store():
    os.mkdir(STORE)
    os.mkdir(MOUNT)
    noise = os.path.join(TMP, "noise")
    with open(noise, "wb") as file:
        file.write(os.urandom(300000))
    run("qemu-img", "create", "-q", "-f", "qcow2", X, "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -s %s 70000 300000" % noise, X)
    run("qemu-img", "snapshot", "-c", "old", X)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "x.qcow2", "-F", "qcow2", O)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -s %s 0 1000" % noise, O)
    for path in (X, O):
        os.rename(path, path + ".made")


def contents():
    return tool("cat", X + ".made")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


# ---- what we do, with qctool and through the mount ----

COMMANDS = [("take", "new"), ("rename", "new", "newer"), ("delete", "newer"), ("revert", "old")]
REFUSED = [("take", "new"), ("rename", "old", "newer"), ("delete", "old"), ("revert", "old")]


def by_qctool(verb, *names):
    done = run(QCTOOL, verb, X, *names, ok=False)
    return done.stderr.decode().split(":")[0] if done.returncode else "ok"


def by_mount(verb, *names):
    fd = os.open(os.path.join(MOUNT, "x.qcow2", "control"), os.O_WRONLY)
    try:
        os.write(fd, " ".join((verb,) + names).encode() + b"\n")
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(fd)


def read_file(*names):
    try:
        with open(os.path.join(MOUNT, "x.qcow2", *names), "rb") as file:
            return file.read()
    except OSError as error:
        return errno.errorcode[error.errno]


def expect(got, wanted, what):
    if got != wanted:
        show = [value if isinstance(value, str) else "%d bytes" % len(value)
                for value in (got, wanted)]
        raise Failure("%s: %s instead of %s" % (what, *show))


def we_try(row, wanted):
    """Everything of ours, beside the row's program."""
    before = digest(X)
    for way in (by_qctool, by_mount):
        for command in REFUSED if row.excludes() else COMMANDS:
            expect(way(*command), "EBUSY" if row.excludes() else "ok",
                   "%s %s" % (way.__name__, " ".join(command)))
    if row.excludes() and digest(X) != before:
        raise Failure("a command that was refused changed the file")
    expect(read_file("disk"), "EBUSY" if row.writes() else wanted, "disk")
    expect(read_file("snapshots", "old"), wanted, "snapshot")
    expect(tool("cat", X, "snapshot=old"), wanted, "snapshot by qctool")
    info = json.loads(read_file("info.json"))
    if "old" not in [snapshot["name"] for snapshot in info["snapshots"]]:
        raise Failure("info.json has no snapshots")


def they_hold(row, wanted):
    fresh()
    process = holder(row)
    with process:
        we_try(row, wanted)
        release(row, process)
    expect(by_qctool("take", "afterwards"), "ok", "take when it has ended")
    check(X)


# ---- what they do ----

def greets():
    """Whether a server listens on NBD, and says what it has to. The socket is there before it listens."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(MOST)
            client.connect(NBD)
            return client.recv(8) == b"NBDMAGIC"
    except OSError:
        return False


def they_serve(row):
    """For qemu-nbd, which would serve for ever: until it greets, or has ended."""
    if os.path.exists(NBD):
        os.unlink(NBD)
    with Process(row.argv) as process:
        wait_until(lambda: process.ended() or greets(), "qemu-nbd")
        return process.output() if process.ended() else None


def they_try(row):
    """Run the row's program to its end: None, or what it says."""
    if row.argv[0] == "qemu-nbd":
        return they_serve(row)
    done = subprocess.run(row.brief, input=b"quit\n", capture_output=True, timeout=MOST)
    return None if done.returncode == 0 else (done.stdout + done.stderr).decode()


def expect_refused(row):
    """While our command holds the image, who wants it for himself fails, and says why."""
    said = they_try(row)
    if row.excludes() and (said is None or " lock" not in said):
        raise Failure("it opened an image that a command changes: %s" % said)
    if not row.excludes() and said is not None:
        raise Failure("it only reads, and was kept out: %s" % said)


def we_hold(command):
    """Our command, stopped with all locks before its first sync, and before its last."""
    for nth in (1, 2):
        for row in ROWS:
            fresh()
            with Stopped([QCTOOL, command[0], X, *command[1:]], "fdatasync", [X], nth) as ours:
                wait_until(lambda: ours.has_stopped() or ours.ended(), "our stop")
                expect_locks(row, WRITES)
                ours.go_on()
            check(X)


def expect_locks(row, locks):
    if locks_on(X) != locks:
        raise Failure("we hold %s" % sorted(locks_on(X)))
    try:
        expect_refused(row)
    except Failure as failure:
        raise Failure("%s: %s" % (row.name, failure)) from None
    if locks_on(X) != locks:
        raise Failure("after %s we hold %s" % (row.name, sorted(locks_on(X))))


def daemon_holds():
    """The same, with the daemon stopped in the middle of a command; nobody may touch the mount."""
    fresh()
    with Stopped([SNAPTREE, "-f", STORE, MOUNT], "fdatasync", [], 1) as daemon:
        wait_until(lambda: os.path.ismount(MOUNT), "the mount")
        control = os.path.join(MOUNT, "x.qcow2", "control")
        with Process(["sh", "-c", "echo take ours >%s" % control]) as writer:
            wait_until(lambda: daemon.has_stopped() or writer.ended(), "our stop")
            for row in ROWS:
                if row.excludes():
                    expect_locks(row, WRITES)
            daemon.signal(signal.SIGCONT)
            wait_until(writer.ended, "the command")
            if writer.popen.returncode != 0:
                raise Failure(writer.output())
        run("fusermount3", "-u", MOUNT)
        wait_until(daemon.ended, "the daemon's end")
    if b" ours\n" not in tool("list", X):
        raise Failure("the snapshot is not there")
    check(X)


def we_read(row, wanted):
    """With a disk and a snapshot open and read, everybody else can open it as he likes."""
    fresh()
    base = os.path.join(MOUNT, "x.qcow2")
    with open(os.path.join(base, "disk"), "rb") as disk, \
            open(os.path.join(base, "snapshots", "old"), "rb", buffering=0) as snapshot:
        expect(disk.read(), wanted, "disk")
        half = len(wanted) // 2
        expect(snapshot.read(half), wanted[:half], "half a snapshot")
        expect_set = locks_on(X)
        if expect_set != SHARES:
            raise Failure("readers hold %s" % sorted(expect_set))
        said = they_try(row)
        if said is not None:
            raise Failure("kept out by who only reads: %s" % said)
        try:
            expect(snapshot.read(), wanted[half:], "the other half")
        except OSError:
            if "-d" not in row.argv: # only a snapshot that is gone may fail
                raise Failure("a snapshot that is still there cannot be read") from None
    check(X)


# ---- all of it ----

def each(what, rows, function, *args):
    for row in rows:
        try:
            function(row, *args)
        except Failure as failure:
            sys.exit("FAIL %s: %s: %s" % (what, row.name, failure))


def main():
    make_store()
    wanted = contents()
    fresh()
    run(SNAPTREE, STORE, MOUNT)
    try:
        each("they hold", ROWS, they_hold, wanted)
        each("we read", ROWS, we_read, wanted)
    finally:
        run("fusermount3", "-u", MOUNT)
    we_hold(("take", "ours"))
    daemon_holds()
    print("%d programs of QEMU, in both orders" % len(ROWS))


main()
