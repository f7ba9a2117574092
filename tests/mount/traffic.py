#!/usr/bin/env python3
"""
Random traffic on a mounted store: traffic.py SECONDS SEED STORE MNT DAEMON-PID

Processes read, list, open, command, interrupt and replace images all at once. Every disk of the
store is told by one number, its stamp: block i of it is filled with a byte that the stamp and i
give. The name of a snapshot begins with the stamp of what it holds, so whoever reads one knows
what must be in it; an image in "moving" holds one stamp, whichever it is. A wrong byte, an error
that cannot be had from what others do, or a name that nobody took ends it with status 1.

Prints how often each thing was done, and what the daemon held over time. The caller unmounts and
runs `traffic.py verify STORE` then: each image against the model (left in STORE.model).
"""
import errno, json, multiprocessing, os, queue, random, shutil, signal, subprocess, sys, threading, time, traceback

BLOCK = 64 * 1024
BLOCKS = 16
STAMPS = 251
OWNED = {  # image of one owner, who alone changes it, through the tree and with QEMU's tools
    "small.qcow2": ["-o", "cluster_size=4K"],
    "usual.qcow2": [],
    "old.qcow2": ["-o", "compat=0.10"],
    "over.qcow2": ["-b", "base.qcow2", "-F", "qcow2"],
}
SHARED = "shared.qcow2"  # many command it at once; its content is always SHARED_STAMP's
SHARED_STAMP = 77
MOVING = ["a.qcow2", "b.qcow2", "c.raw"]
MAX_SNAPSHOTS = 8
LIMIT = 20  # times the seconds, on a machine that has much else to do


class Wrong(Exception):
    """The daemon did what it must not do."""


def names(*codes):
    return "/".join(errno.errorcode.get(c, str(c)) for c in codes)


def byte_of(stamp, block):
    return (stamp + block) % STAMPS + 1


def stamp_in(data, offset):
    """The stamp of a piece of a disk; all of it must have the same."""
    stamp = (data[0] - 1 - offset // BLOCK) % STAMPS
    place = 0
    while place < len(data):
        block = (offset + place) // BLOCK
        n = min(len(data) - place, (block + 1) * BLOCK - offset - place)
        if data[place : place + n] != bytes([byte_of(stamp, block)]) * n:
            raise Wrong("bytes at %d are not those of stamp %d" % (offset + place, stamp))
        place += n
    return stamp


def stamp_of_name(name):
    return int(name.split(".")[0])


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise Wrong("%s: %s" % (" ".join(argv), done.stderr.strip()))
    return done.stdout


def fill(path, stamp, *options):
    """Write a stamp onto a whole disk, with QEMU."""
    writes = ["write -q -P %d %d %d" % (byte_of(stamp, i), i * BLOCK, BLOCK) for i in range(BLOCKS)]
    run("qemu-io", *options, *[word for w in writes for word in ("-c", w)], path)


class Worker:
    """One process: a random sequence, counts of what it did, and what it knows of its images."""

    def __init__(self, args, role, number):
        self.stop, self.results, self.seed, self.store, self.mnt = args
        self.role, self.number = role, number
        self.random = random.Random("%s %s %d" % (self.seed, role, number))
        self.counts = {}
        self.model = {}
        self.serial = 0

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def main(self):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        told, problem = 0, None
        try:
            while not self.stop.is_set():
                getattr(self, self.role)()
                if time.monotonic() > told + 0.5:
                    self.results.put(("counts", self.counts))
                    told, self.counts = time.monotonic(), {}
        except Exception:
            problem = "%s %d: %s" % (self.role, self.number, traceback.format_exc())
        self.results.put(("counts", self.counts))
        self.results.put(("end", self.model, problem))

    # ---- reading

    def open(self, path, allowed):
        """A descriptor, or None after an error that may happen."""
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno not in allowed:
                raise Wrong("open %s: %s" % (path, error))
            self.count("open: " + names(error.errno))
            return None

    def read_piece(self, fd, path, allowed, what):
        """The stamp of a random piece; None after an error that may happen."""
        offset = self.random.randrange(BLOCKS * BLOCK - 1)
        length = self.random.choice([1, 4096, 100000, 8 * BLOCK])
        try:
            data = os.pread(fd, length, offset)
        except OSError as error:
            if error.errno not in allowed:
                raise Wrong("read %s: %s" % (path, error))
            self.count("%s: %s" % (what, names(error.errno)))
            return None
        if not data:
            raise Wrong("nothing at %d of %s" % (offset, path))
        self.count(what)
        return stamp_in(data, offset)

    def some_snapshot(self, image):
        directory = "%s/%s/snapshots" % (self.mnt, image)
        found = os.listdir(directory)
        self.count("listings")
        return "%s/%s" % (directory, self.random.choice(found)) if found else None

    def read_snapshots(self):
        image = self.random.choice([*OWNED, SHARED])
        path = self.some_snapshot(image)
        fd = path and self.open(path, (errno.ENOENT, errno.EBUSY))
        if not fd:
            return
        # QEMU deletes a snapshot whoever reads it: that is an error then, not other bytes.
        allowed = () if image == SHARED else (errno.EIO,)
        for _ in range(self.random.randrange(1, 12)):
            stamp = self.read_piece(fd, path, allowed, "reads of snapshots")
            if stamp not in (None, stamp_of_name(os.path.basename(path))):
                raise Wrong("%s holds stamp %d" % (path, stamp))
        os.close(fd)

    def read_disks(self):
        image = self.random.choice([*OWNED, SHARED])
        path = "%s/%s/%s" % (self.mnt, image, self.random.choice(["disk", "layers/0-" + image]))
        fd = self.open(path, (errno.EBUSY,))
        if not fd:
            return
        for _ in range(self.random.randrange(1, 6)):
            self.read_piece(fd, path, (errno.EBUSY,), "reads of disks")
        os.close(fd)

    def read_together(self):
        """Threads that share a descriptor; it is closed when the last of them has done."""
        path = "%s/%s/disk" % (self.mnt, self.random.choice(["small.qcow2", SHARED]))
        fd = self.open(path, (errno.EBUSY,))
        if not fd:
            return
        problems = []

        def work():
            try:
                for _ in range(10):
                    self.read_piece(fd, path, (errno.EBUSY,), "reads of disks")
                    self.read_text("%s/%s/info.json" % (self.mnt, SHARED))
            except Exception as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.close(fd)
        if problems:
            raise problems[0]
        self.count("reads together")

    def read_moving(self):
        name = self.random.choice(MOVING)
        path = "%s/moving/%s/disk" % (self.mnt, name)
        fd = self.open(path, (errno.ENOENT, errno.EBUSY))
        if not fd:
            return
        stamps = {self.read_piece(fd, path, (errno.EIO, errno.EBUSY), "reads of what moves") for _ in range(3)}
        if len(stamps - {None}) > 1:
            raise Wrong("%s: one descriptor, stamps %s" % (path, stamps))
        os.close(fd)

    def open_briefly(self):
        """Short opens of anything; closed while another thread may be reading."""
        image = self.random.choice([*OWNED, SHARED])
        path = "%s/%s/%s" % (self.mnt, image, self.random.choice(["disk", "control", "info.json"]))
        for _ in range(20):
            fd = self.open(path, (errno.EBUSY,))
            if fd:
                os.close(fd)
                self.count("short opens")

    # ---- listing

    def list_all(self):
        """A walk of our own, in which only what really vanished may be missing."""
        for root, _, files in os.walk(self.mnt, onerror=self.walk_error):
            self.look_for_loop(root)
            for file in files:
                path = os.path.join(root, file)
                try:
                    os.lstat(path)
                    if file in ("info.json", "control", "error"):
                        self.read_text(path)
                except FileNotFoundError:
                    self.count("vanished")
        self.count("walks")

    def look_for_loop(self, path):
        """No directory has the inode number of one that it lies in."""
        numbers = []
        try:
            while path.startswith(self.mnt):
                numbers.append(os.lstat(path).st_ino)
                path = os.path.dirname(path)
        except FileNotFoundError:
            self.count("vanished")
        if len(set(numbers)) < len(numbers):
            raise Wrong("a loop of directories: %s" % numbers)

    def walk_error(self, error):
        if error.errno != errno.ENOENT:
            raise Wrong("walk: %s" % error)
        self.count("vanished")

    def read_text(self, path):
        text = open(path, "rb").read()
        if path.endswith("info.json"):
            json.loads(text)
        elif not text.endswith(b"\n"):
            raise Wrong("%s holds %r" % (path, text))
        self.count("texts")

    def list_with_tools(self):
        tool = self.random.choice([["ls", "-lR"], ["find", "-ls"], ["du", "-a"]])
        done = subprocess.run([*tool[:1], self.mnt, *tool[1:]], capture_output=True, text=True)
        # find takes two directories that vanish while it is in them, one in the other, for a loop:
        # it asks for their numbers again, and has 0 for both.
        vanished = ["No such file or directory", "File system loop detected"]
        for line in done.stderr.splitlines():
            if not any(words in line for words in vanished):
                raise Wrong("%s: %s" % (tool[0], line))
        if len(done.stdout.splitlines()) < 30:
            raise Wrong("%s shows only %s" % (tool[0], done.stdout))
        self.count("ls, find, du")

    # ---- commands

    def command(self, image, text, allowed):
        """The errno of a command; 0 when it was done."""
        path = "%s/%s/control" % (self.mnt, image)
        if self.random.randrange(4) == 0:
            path, text = self.mnt + "/control", " ".join([*text.split()[:1], image, *text.split()[1:]])
        fd = os.open(path, os.O_RDWR)
        try:
            if os.write(fd, text.encode()) != len(text):
                raise Wrong("short write of '%s'" % text)
            self.count(text.split()[0])
            return 0
        except OSError as error:
            if error.errno not in allowed:
                raise Wrong("%s: %s: %s" % (image, error, os.pread(fd, 4096, 0).decode()))
            self.count("%s: %s" % (text.split()[0], names(error.errno)))
            return error.errno
        finally:
            os.close(fd)

    def own(self):
        """The life of one image; the model is what its commands have made it."""
        image = list(OWNED)[self.number]
        model = self.model.setdefault(image, {"disk": 0, "snapshots": {"0.first": 0}})
        snapshots, path = model["snapshots"], os.path.join(self.store, image)
        self.serial += 1
        new = "%d.%d" % (model["disk"], self.serial % 20)
        some = self.random.choice(list(snapshots)) if snapshots else None
        if new in snapshots:
            return
        act = self.random.choice(["write", "take", "take", "take", "revert", "delete", "rename", "check", "refused",
                                  "qemu take", "qemu revert", "qemu delete", "lines"])
        if len(snapshots) >= MAX_SNAPSHOTS:
            act = "delete"
        if act == "write":
            model["disk"] = self.random.randrange(12)  # few, so that names come again: see "flat"
            fill(path, model["disk"])
        elif act == "take":
            if self.command(image, "take " + new, ()) == 0:
                snapshots[new] = model["disk"]
        elif act == "lines":
            self.command(image, "check", ())
            self.own_lines(image, new)
        elif act == "refused":
            self.command(image, "take " + (some or "'"), (errno.EEXIST, errno.EINVAL))
            self.command(image, "delete nothing", (errno.ENOENT,))
        elif act == "qemu take":
            run("qemu-img", "snapshot", "-c", new, path)
            snapshots[new] = model["disk"]
        elif act == "check":
            self.command(image, "check", ())
        elif some:
            self.own_one(image, path, act, model, some)
        if act.startswith(("qemu", "write")):
            self.count(act)

    def own_one(self, image, path, act, model, some):
        """A command on a snapshot that there is."""
        snapshots = model["snapshots"]
        if act == "delete" and self.command(image, "delete " + some, (errno.EBUSY,)) == 0:
            del snapshots[some]
        elif act == "revert" and self.command(image, "revert " + some, (errno.EBUSY,)) == 0:
            model["disk"] = snapshots[some]
        elif act == "rename":
            to = "%d.r%d" % (snapshots[some], self.serial % 20)
            if to not in snapshots and self.command(image, "rename %s %s" % (some, to), ()) == 0:
                snapshots[to] = snapshots.pop(some)
        elif act == "qemu revert":
            run("qemu-img", "snapshot", "-a", some, path)
            model["disk"] = snapshots[some]
        elif act == "qemu delete":
            run("qemu-img", "snapshot", "-d", some, path)
            del snapshots[some]

    def own_lines(self, image, new):
        """Several lines in one write: a snapshot that comes and goes."""
        fd = os.open("%s/%s/control" % (self.mnt, image), os.O_RDWR)
        text = "take %s\nrename %s %sx\ncheck\n" % (new, new, new)
        os.write(fd, text.encode())
        results = os.read(fd, 65536).decode()
        os.close(fd)
        if results.count("Z ok ") != 3:
            raise Wrong("of three lines: %s" % results)
        while self.command(image, "delete %sx" % new, (errno.EBUSY,)):
            time.sleep(0.01)
        self.count("lines in one write")

    def share(self):
        """One of many who command one image; each has names of its own."""
        mine = self.model.setdefault(SHARED, {"disk": SHARED_STAMP, "snapshots": {}, "maybe": []})["snapshots"]
        name = "%d.by%d-%d" % (SHARED_STAMP, self.number, self.random.randrange(4))
        if name not in mine:
            if self.command(SHARED, "take " + name, ()) == 0:
                mine[name] = SHARED_STAMP
        elif self.random.randrange(3) == 0:
            self.command(SHARED, "revert " + name, (errno.EBUSY,))
        elif self.command(SHARED, "delete " + name, (errno.EBUSY,)) == 0:
            del mine[name]

    # ---- open against delete and revert

    def race(self):
        """Open and delete at the same moment, the descriptor held until both are known."""
        image = "race-%d.qcow2" % self.number
        name = "9.%d" % (self.serial % 10)
        verb, path = self.random.choice([("delete", "snapshots/" + name), ("revert", "disk")])
        self.serial += 1
        self.command(image, "take " + name, ())
        got = {}
        barrier = threading.Barrier(2)
        opener = threading.Thread(target=self.race_open, args=("%s/%s/%s" % (self.mnt, image, path), barrier, got))
        opener.start()
        barrier.wait()
        result = self.command(image, "%s %s" % (verb, name), (errno.EBUSY,))
        opener.join()
        fd = got["fd"]
        self.count("races: %s %s, open %s" % (verb, "EBUSY" if result else "ok", "ok" if fd else got["errno"]))
        if fd and result == 0 and verb == "delete":
            raise Wrong("%s was deleted while it was open" % path)
        if fd:
            while stamp := self.read_piece(fd, path, (), "reads after a race") != 9:
                raise Wrong("%s holds stamp %s" % (path, stamp))
            os.close(fd)
        if result or verb == "revert":
            self.command(image, "delete " + name, ())

    def race_open(self, path, barrier, got):
        barrier.wait()
        time.sleep(self.random.choice([0, 0, 0.0005, 0.001, 0.002]))
        got["fd"] = got["errno"] = None
        try:
            got["fd"] = os.open(path, os.O_RDONLY)
        except OSError as error:
            got["errno"] = names(error.errno)

    # ---- interrupting

    def interrupt(self):
        """Somebody is killed, or gets Ctrl-C, in the middle of reading or of a command."""
        name = "%d.int%d" % (SHARED_STAMP, self.random.randrange(3))
        maybe = self.model.setdefault(SHARED, {"disk": SHARED_STAMP, "snapshots": {}, "maybe": []})["maybe"]
        if name not in maybe:
            maybe.append(name)
        pid = os.fork()
        if pid == 0:
            try:
                self.victim(name)
            finally:
                os._exit(0)
        time.sleep(self.random.random() ** 2 * 0.05)
        os.kill(pid, self.random.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
        os.waitpid(pid, 0)
        self.count("interrupted")

    def victim(self, name):
        fd = os.open("%s/%s/disk" % (self.mnt, SHARED), os.O_RDONLY)
        control = os.open("%s/%s/control" % (self.mnt, SHARED), os.O_WRONLY)
        while True:
            os.pread(fd, BLOCKS * BLOCK, 0)
            for text in "take " + name, "delete " + name:
                try:
                    os.write(control, text.encode())
                except OSError:
                    pass
            os.listdir("%s/%s/snapshots" % (self.mnt, SHARED))

    # ---- what others do to the store

    def move(self):
        """Images appear, are replaced by others, are cut short, and vanish."""
        name = self.random.choice(MOVING)
        path, staged = "%s/moving/%s" % (self.store, name), "%s.staging/%s" % (self.store, name)
        act = self.random.choice(["replace", "replace", "remove", "ruin", "directory"])
        if act == "replace":
            shutil.copy("%s.staging/%d%s" % (self.store, self.random.randrange(4), os.path.splitext(name)[1]), staged)
            os.rename(staged, path)
        elif act == "remove" and os.path.exists(path):
            os.unlink(path)
        elif act == "ruin" and name.endswith(".qcow2"):
            with open(staged, "wb") as file:
                file.write(b"QFI\xfb\0\0\0\3" + self.random.randbytes(self.random.randrange(3000)))
            os.rename(staged, path)
        elif act == "directory":
            shutil.move(self.store + "/moving", self.store + "/gone")
            shutil.move(self.store + "/gone", self.store + "/moving")
        self.count("moves")
        time.sleep(0.005)


ROLES = (
    [("own", i) for i in range(len(OWNED))]
    + [("share", i) for i in range(3)]
    + [("race", i) for i in range(2)]
    + [("read_snapshots", i) for i in range(3)]
    + [("read_disks", i) for i in range(2)]
    + [("read_together", i) for i in range(2)]
    + [("read_moving", 0), ("open_briefly", 0), ("list_all", 0), ("list_with_tools", 0), ("interrupt", 0), ("move", 0)]
)
# What must have been done, whatever the machine, and at least how often; by how it begins.
WANTED = {
    "reads of snapshots": 100, "reads of disks": 50, "reads together": 5, "reads of what moves": 20, "short opens": 100, "listings": 50,
    "walks": 2, "texts": 50, "ls, find, du": 2, "take": 50, "delete": 30, "revert": 10, "rename": 1, "check": 1,
    "lines in one write": 1, "write": 1, "qemu take": 1, "interrupted": 10, "moves": 20,
    "races: delete EBUSY": 1, "races: delete ok": 1, "races: revert": 2,
}


def prepare(store):
    os.makedirs(store + "/moving")
    os.makedirs(store + ".staging")
    size = str(BLOCKS * BLOCK)
    for i in range(4):
        staged = "%s.staging/%d" % (store, i)
        run("qemu-img", "create", "-q", "-f", "qcow2", staged + ".qcow2", size)
        fill(staged + ".qcow2", 50 * i)
        run("qemu-img", "convert", "-O", "raw", staged + ".qcow2", staged + ".raw")
    shutil.copy(store + ".staging/1.qcow2", store + "/base.qcow2")
    for name, options in OWNED.items():
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, "%s/%s" % (store, name), size)
        fill("%s/%s" % (store, name), 0)
        run("qemu-img", "snapshot", "-c", "0.first", "%s/%s" % (store, name))
    for name, stamp in ((SHARED, SHARED_STAMP), ("race-0.qcow2", 9), ("race-1.qcow2", 9)):
        run("qemu-img", "create", "-q", "-f", "qcow2", "%s/%s" % (store, name), size)
        fill("%s/%s" % (store, name), stamp)


def sample(pid):
    """What the daemon holds: KiB of memory, descriptors."""
    with open("/proc/%d/status" % pid) as status:
        rss = [int(line.split()[1]) for line in status if line.startswith("VmRSS")][0]
    return rss, len(os.listdir("/proc/%d/fd" % pid))


def merge(into, model):
    for image, part in model.items():
        whole = into.setdefault(image, {"disk": part["disk"], "snapshots": {}, "maybe": []})
        whole["snapshots"].update(part["snapshots"])
        whole["maybe"] += part.get("maybe", [])


def missing(counts):
    """What of WANTED was not done often enough."""
    for wanted, n in WANTED.items():
        done = sum(count for what, count in counts.items() if what.startswith(wanted))
        if done < n:
            yield "too little of '%s': %d" % (wanted, done)


class Watch:
    """Samples of the daemon, and what the workers tell, until all of them have ended."""

    def __init__(self, pid):
        self.pid, self.samples, self.counts, self.model, self.problems, self.ended = pid, [], {}, {}, [], 0

    def look(self, results):
        self.samples.append(sample(self.pid))
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            try:
                self.hear(*results.get(timeout=0.5))
            except queue.Empty:
                pass

    def hear(self, kind, *told):
        if kind == "counts":
            for what, n in told[0].items():
                self.counts[what] = self.counts.get(what, 0) + n
        else:
            self.ended += 1
            merge(self.model, told[0])
            self.problems += [told[1]] if told[1] else []


def traffic(seconds, seed, store, mnt, pid):
    """For so long, and until all that is wanted was done, but not for ever."""
    stop, results, watch = multiprocessing.Event(), multiprocessing.Queue(), Watch(pid)
    args = (stop, results, seed, store, mnt)
    workers = [multiprocessing.Process(target=Worker(args, *role).main, daemon=True) for role in ROLES]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    while watch.ended < len(workers):
        try:
            watch.look(results)
        except FileNotFoundError:
            sys.exit("the daemon is gone; %s" % "\n".join(watch.problems))
        passed = time.monotonic() - start
        if watch.problems or passed > LIMIT * seconds or (passed > seconds and not list(missing(watch.counts))):
            stop.set()
    for worker in workers:
        worker.join()
    for what in sorted(watch.counts):
        print("%8d %s" % (watch.counts[what], what))
    json.dump(watch.model, open(store + ".model", "w"))
    json.dump(watch.samples, open(store + ".samples", "w"))
    problems = watch.problems or list(missing(watch.counts))
    if problems:
        sys.exit("\n".join(problems))


def flat(store, margin_kib, margin_fds):
    """
    Whether the last third of the samples stays within a margin of the first. (The daemon knows
    every name that the kernel remembers, so names that never come again would count.)
    """
    samples = json.load(open(store + ".samples"))
    third = len(samples) // 3
    early, late = samples[:third], samples[-third:]
    for what, i, margin in ("KiB of memory", 0, margin_kib), ("descriptors", 1, margin_fds):
        before, after = max(s[i] for s in early), max(s[i] for s in late)
        print("%s: at most %d in the first third, %d in the last (%d samples)" % (what, before, after, len(samples)))
        if after > before + margin:
            sys.exit("%s grow: %d, then %d" % (what, before, after))


def verify_disk(image, wanted, *options):
    raw = image + ".raw"
    run("qemu-img", "convert", "-O", "raw", *options, image, raw)
    data = open(raw, "rb").read()
    os.unlink(raw)
    if len(data) != BLOCKS * BLOCK or stamp_in(data, 0) != wanted:
        raise Wrong("%s %s does not hold stamp %d" % (image, " ".join(options), wanted))


def verify(store):
    """Every image against the model, by QEMU's eyes."""
    model = json.load(open(store + ".model"))
    verified = 0
    for image, wanted in model.items():
        path = os.path.join(store, image)
        info = json.loads(run("qemu-img", "info", "--output=json", path))
        found = sorted(s["name"] for s in info.get("snapshots", []))
        expected = sorted([*wanted["snapshots"], *(set(wanted["maybe"]) & set(found))])
        if found != expected:
            raise Wrong("%s has the snapshots %s, not %s" % (image, found, expected))
        verify_disk(path, wanted["disk"])
        for name in found:
            verify_disk(path, stamp_of_name(name), "-l", "snapshot.name=" + name)
            verified += 1
    print("%d images and %d snapshots hold what the model says" % (len(model), verified))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2])
    elif sys.argv[1] == "verify":
        verify(sys.argv[2])
    elif sys.argv[1] == "flat":
        flat(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        traffic(float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
