"""
The workers of traffic.py: each is a process that does one kind of thing, its role, again and again,
and ends with what it counted and what it knows of its images, or with what was wrong.
"""
import errno, json, os, random, shutil, signal, subprocess, threading, time, traceback

from traffic_store import (BLOCK, BLOCKS, MOVING, OWNED, SHARED, SHARED_STAMP, Wrong, fill, run, stamp_in,
                           stamp_of_name)

MAX_SNAPSHOTS = 8


def names(*codes):
    return "/".join(errno.errorcode.get(c, str(c)) for c in codes)


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
