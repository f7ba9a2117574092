"""live.py SNAPTREE SECONDS: read all snapshots of an image that a running QEMU changes.

QEMU writes, discards, takes snapshots and deletes them, without a pause; meanwhile all
snapshots are read through the mount and compared with what they must be. What a read returns is
right, or the snapshot has been deleted, and then it is an error: never anything else.
"""

import errno
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

from images import QCTOOL, TMP, Failure, check, dump, run, same

SNAPTREE, SECONDS = sys.argv[1], float(sys.argv[2])
STORE, MOUNT = os.path.join(TMP, "store"), os.path.join(TMP, "mnt")
SIZE, BLOCK = 2 << 20, 64 << 10
READERS, MOST_SNAPSHOTS = 3, 6
OPTIONS = ["cluster_size=4096", "cluster_size=65536", "extended_l2=on,cluster_size=16384",
           "compat=0.10,cluster_size=512"]


class Monitor:
    """A VM that never runs its guest; everything is done by what is said here."""

    def __init__(self, image):
        path = os.path.join(TMP, "qmp")
        if os.path.exists(path):
            os.unlink(path)
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine",
             "pc,accel=tcg", "-m", "16", "-drive",
             "file=%s,format=qcow2,if=none,id=d0,discard=unmap" % image,
             "-qmp", "unix:%s,server=on,wait=off" % path])
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if self.process.poll() is not None:
                    raise Failure("QEMU does not start") from None
                time.sleep(0.05)
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        for line in self.stream:
            answer = json.loads(line)
            if "error" in answer:
                raise Failure("%s: %s" % (command, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]
        raise Failure("QEMU hung up")

    def io(self, command):
        said = self.ask("human-monitor-command", **{"command-line": 'qemu-io d0 "%s"' % command})
        if said:
            raise Failure("%s: %s" % (command, said))

    def quit(self):
        self.ask("quit")
        self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Live:
    """One image under way: what its disk and its snapshots must be."""

    def __init__(self, number, options):
        self.name = "image%d.qcow2" % number
        self.image = os.path.join(STORE, self.name)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, self.image, str(SIZE))
        self.rng = random.Random(options)
        self.disk = bytearray(SIZE)
        self.wanted = {}       # by name, of all snapshots that ever were
        self.taken = []        # their names, once they are there
        self.present = []      # those that still are, in the order of the table
        self.doomed = set()    # those that have been deleted, or are about to be
        self.stop = threading.Event()
        self.failures = []
        self.right, self.refused, self.deleted = 0, 0, 0
        self.monitor = Monitor(self.image)

    def snapshot_path(self, name):
        return os.path.join(MOUNT, self.name, "snapshots", name)

    # ---- QEMU's side ----

    def write(self):
        at = self.rng.randrange(SIZE // 512) * 512
        length = min(self.rng.choice([512, 4096, BLOCK, 4 * BLOCK]), SIZE - at)
        if self.rng.random() < 0.2:
            self.monitor.io("write -q -z -u %d %d" % (at, length))
            self.disk[at:at + length] = bytes(length)
        else:
            byte = self.rng.randrange(1, 256)
            self.monitor.io("write -q -P %d %d %d" % (byte, at, length))
            self.disk[at:at + length] = bytes([byte]) * length

    def take(self):
        name = "s%d" % len(self.wanted)
        self.wanted[name] = bytes(self.disk)
        self.monitor.ask("blockdev-snapshot-internal-sync", device="d0", name=name)
        self.present.append(name)
        self.taken.append(name)

    def delete(self, name):
        self.doomed.add(name)
        self.present.remove(name)
        self.monitor.ask("blockdev-snapshot-delete-internal-sync", device="d0", name=name)
        self.deleted += 1

    def change(self):
        for _ in range(self.rng.randint(1, 12)):
            self.write()
        if len(self.present) < MOST_SNAPSHOTS:
            self.take()
        if len(self.present) > 2 and self.rng.random() < 0.6:
            self.delete(self.rng.choice(self.present))

    def overwrite(self):
        """Every cluster that is free is used again."""
        byte = self.rng.randrange(1, 256)
        self.monitor.io("write -q -P %d 0 %d" % (byte, SIZE))
        self.disk[:] = bytes([byte]) * SIZE

    # ---- our side ----

    def compare(self, name, at, got):
        """A read may end where the snapshot was deleted, after bytes that are right."""
        wanted = self.wanted[name][at:at + BLOCK]
        doomed = name in self.doomed
        if not got or got != wanted[:len(got)] or (len(got) != len(wanted) and not doomed):
            raise Failure("%s: wrong bytes (%d) in %s at %d, %s" % (
                self.name, len(got), name, at, "deleted" if doomed else "still there"))
        self.right += len(got)

    def failed(self, name, error, what):
        """Only what is deleted may fail, and as a file that is gone or broken."""
        if name not in self.doomed or error.errno not in (errno.ENOENT, errno.EIO, errno.ESTALE):
            raise Failure("%s: %s of %s: %s" % (self.name, what, name, error))
        self.refused += 1

    def read_all(self, name, rng):
        """A snapshot, its blocks in any order, none of them from the kernel's cache."""
        try:
            fd = os.open(self.snapshot_path(name), os.O_RDONLY)
        except OSError as error:
            return self.failed(name, error, "open")
        try:
            for at in rng.sample(range(0, SIZE, BLOCK), SIZE // BLOCK):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                try:
                    got = os.pread(fd, BLOCK, at)
                except OSError as error:
                    self.failed(name, error, "read")
                    continue
                self.compare(name, at, got)
        finally:
            os.close(fd)
        return None

    def reader(self, number):
        rng = random.Random(number)
        try:
            while not self.stop.is_set():
                self.read_all(rng.choice(self.taken[-2 * MOST_SNAPSHOTS:]), rng)
        except Exception as failure: # pylint: disable=broad-except
            self.failures.append(failure)
            self.stop.set()

    # ---- together ----

    def traffic(self, seconds):
        self.take()
        threads = [threading.Thread(target=self.reader, args=(i,)) for i in range(READERS)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and not self.stop.is_set():
                self.change()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        if self.failures:
            raise self.failures[0]

    def deleted_under_a_reader(self):
        """Half is read; the snapshot goes, its clusters get used again; the rest is an error."""
        self.overwrite()
        self.take()
        name = self.present[-1]
        self.overwrite()
        fd = os.open(self.snapshot_path(name), os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            self.compare(name, 0, os.pread(fd, BLOCK, 0))
            self.delete(name)
            # What was its own is all free now; another snapshot makes the disk move there.
            self.take()
            self.overwrite()
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                got = os.pread(fd, BLOCK, SIZE // 2)
            except OSError as error:
                return self.failed(name, error, "read")
            raise Failure("%d bytes were read of a snapshot that is no more" % len(got))
        finally:
            os.close(fd)

    def is_busy(self):
        try:
            os.close(os.open(os.path.join(MOUNT, self.name, "disk"), os.O_RDONLY))
            raise Failure("the disk of a running VM can be opened")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        done = run(QCTOOL, "take", self.image, "ours", ok=False)
        if not done.stderr.startswith(b"EBUSY"):
            raise Failure("take beside a VM: %r" % done.stderr)

    def verify_at_rest(self):
        """When QEMU has ended: nothing to complain of, and all is what it should be."""
        check(self.image)
        data = dump(self.image)
        at = data.index(b"\n") + 1
        same(data[at:at + SIZE], bytes(self.disk), "disk")
        at += SIZE
        for name in self.present:
            at = data.index(b"\n", at) + 1
            same(data[at:at + SIZE], self.wanted[name], "snapshot %s" % name)
            at += SIZE

    def go(self, seconds):
        try:
            self.traffic(seconds)
            for _ in range(3):
                self.is_busy()
                self.deleted_under_a_reader()
            self.monitor.quit()
        finally:
            self.monitor.kill()
        self.verify_at_rest()
        print("%s: %d MiB right, %d reads refused, of %d snapshots %d deleted" % (
            self.name, self.right >> 20, self.refused, len(self.wanted), self.deleted), flush=True)


def main():
    os.mkdir(STORE)
    os.mkdir(MOUNT)
    run(SNAPTREE, STORE, MOUNT)
    try:
        for number, options in enumerate(OPTIONS):
            Live(number, options).go(SECONDS / len(OPTIONS))
    except Failure as failure:
        sys.exit("FAIL %s" % failure)
    finally:
        run("fusermount3", "-u", MOUNT)


main()
