"""The sides: each makes an image readable as a file, for as long as a with statement lasts."""

import contextlib
import os
import subprocess
import time

from .measure import Failure, run, warm

PATIENCE = 60  # seconds
READ_AHEAD_KIB = 1024
RINGS = "/sys/module/fuse/parameters/enable_uring"

# What its manual offers that could make qemu-storage-daemon faster; the first are its defaults.
# Its cache of L2 tables holds all of them for every image here by default.
QSD_OPTIONS = {
    "": {},
    "iothread": {"export": ",iothread=thread", "object": ["--object", "iothread,id=thread"]},
    "aio=io_uring": {"file": ",aio=io_uring"},
}


def device_of(path):
    return os.stat(path).st_dev


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(what + " takes too long")
        time.sleep(0.005)


def last_line(path):
    with open(path, errors="replace") as file:
        return "".join(file.readlines()[-1:]).strip()


def clear(path):
    """Undo a mount that its server left behind."""
    subprocess.run(["fusermount3", "-u", "-q", "-z", path], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def serving(argv, mountpoint):
    """A server that stays in the foreground; it ends when its mount does."""
    unmounted = device_of(mountpoint)
    with open("servers.log", "ab") as log:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_mounted():
        if server.poll() is not None:
            raise Failure("%s ended: %s" % (argv[0], last_line("servers.log")))
        return device_of(mountpoint) != unmounted

    try:
        wait_until(is_mounted, "mounting with " + argv[0])
        yield server.pid
        run("fusermount3", "-u", mountpoint)
        server.terminate()  # qemu-storage-daemon outlives its export
        server.wait(PATIENCE)
    finally:
        clear(mountpoint)
        if server.poll() is None:
            server.kill()
            server.wait()


def empty_file(path):
    with open(path, "wb"):
        return path


def empty_directory(path):
    os.makedirs(path, exist_ok=True)
    return os.path.abspath(path)


def raise_read_ahead(mountpoint):
    """As the daemon does for itself; needs root."""
    device = device_of(mountpoint)
    path = "/sys/class/bdi/%d:%d/read_ahead_kb" % (os.major(device), os.minor(device))
    with contextlib.suppress(OSError), open(path, "w") as knob:
        knob.write(str(READ_AHEAD_KIB))


@contextlib.contextmanager
def snaptree(store="store", *options):
    """Gives the mountpoint."""
    mountpoint = empty_directory("mnt")
    with serving([os.environ["SNAPTREE"], "-f", *options, store, mountpoint], mountpoint):
        yield mountpoint


@contextlib.contextmanager
def snaptree_file(path, store="store"):
    with snaptree(store) as mountpoint:
        yield mountpoint + "/" + path


def rings_are_there():
    """Whether the kernel can have requests of FUSE come over io_uring."""
    return os.access(RINGS, os.W_OK)


@contextlib.contextmanager
def snaptree_rings(path, store="store"):
    """With the kernel's parameter on, for no longer than that, as nobody else asks for it."""
    with open(RINGS, "r+") as knob:
        was = knob.read()
        knob.write("Y")
        knob.flush()
        try:
            with snaptree(store, "-o", "io_uring") as mountpoint:
                yield mountpoint + "/" + path
        finally:
            knob.write(was)


@contextlib.contextmanager
def floor(raw, *options):
    mountpoint = empty_file("exported")
    with serving([os.environ["FLOOR"], *options, raw, mountpoint], mountpoint):
        raise_read_ahead(mountpoint)
        yield mountpoint


@contextlib.contextmanager
def qsd(image, option="", read_ahead=False):
    """qemu-storage-daemon, with one of QSD_OPTIONS."""
    mountpoint = empty_file("exported")
    with_option = QSD_OPTIONS[option]
    argv = ["qemu-storage-daemon", *with_option.get("object", []),
            "--blockdev", "driver=file,node-name=file,filename=%s,read-only=on%s"
            % (image, with_option.get("file", "")),
            "--blockdev", "driver=qcow2,node-name=disk,file=file,read-only=on",
            "--export", "type=fuse,id=export,node-name=disk,mountpoint=%s%s"
            % (os.path.abspath(mountpoint), with_option.get("export", ""))]
    with serving(argv, mountpoint):
        if read_ahead:
            raise_read_ahead(mountpoint)
        yield mountpoint


@contextlib.contextmanager
def qcowmount(image):
    """Stays in the foreground only to print every request: so it is a daemon."""
    mountpoint = empty_directory("qcow")
    run("qcowmount", image, mountpoint)
    try:
        wait_until(lambda: os.path.exists(mountpoint + "/qcow1"), "mounting with qcowmount")
        yield mountpoint + "/qcow1"
    finally:
        run("fusermount3", "-u", mountpoint)


@contextlib.contextmanager
def nbdfuse(image):
    mountpoint = empty_directory("nbd")
    argv = ["nbdfuse", "-r", mountpoint, "[", "qemu-nbd", "-r", "-f", "qcow2", image, "]"]
    with serving(argv, mountpoint):
        yield mountpoint + "/nbd"


@contextlib.contextmanager
def plain(path):
    """No server at all."""
    yield path


def visit(server, use, *files, prepare=warm):
    """A function that prepares files, starts a server over them, uses what it serves, and stops
    it."""
    def go():
        for file in files:
            prepare(file)
        with server() as path:
            return use(path)
    return go


def processes_of(mountpoint):
    """Of our daemon there, their ids."""
    wanted = [os.environ["SNAPTREE"].encode(), mountpoint.encode()]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as file:
            words = file.read().split(b"\0")
            if words[0] == wanted[0] and wanted[1] in words:
                yield pid


def is_running(mountpoint):
    return any(processes_of(mountpoint))


def memory_of(mountpoint, key):
    """The sum of VmRSS, VmHWM... of the processes of our daemon, in MiB."""
    kib = sum(status_of(pid)[key] for pid in processes_of(mountpoint))
    if not kib:
        raise Failure("the daemon is not there")
    return kib / 1024


def status_of(pid):
    """The figures of /proc/PID/status that are in kB."""
    with open("/proc/%s/status" % pid) as file:
        lines = [line.split() for line in file]
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[2:] == ["kB"]}
