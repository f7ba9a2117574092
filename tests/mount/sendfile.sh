# mmap(2), and sendfile(2) from Linux 6.5 on, read through the kernel's page cache whatever a file
# was opened with. Still nobody gets a byte that is not there any more, or that is of something else:
# what may change is refused, and so who copies by sendfile(2) goes back to read(2).
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-nbd python3 cmp
requires_fuse

mkdir store out
uniform_image store/live.qcow2 4M 1
uniform_image store/shots.qcow2 4M 1
qemu-img snapshot -c s store/shots.qcow2
uniform_image store/again.qcow2 4M 1
uniform_image store/text.qcow2 4M 1
qemu-img create -q -u -f qcow2 -b one.raw -F raw store/astray.qcow2 1M
uniform_image store/base.qcow2 4M 1
uniform_image new-base.qcow2 4M 2
(cd store && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2)
mount_store store "$TMP/mnt"

cat >read.py <<'END'
import mmap, os, shutil, subprocess, sys, time

PART, HALF = 65536, 2 << 20


def run(*argv):
    subprocess.run(argv, check=True)


def sent(fd, offset=0):
    """What sendfile() finds there: bytes, or an errno's name."""
    out = os.open("out/sent", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.sendfile(out, fd, offset, PART)
        return os.pread(out, PART, 0)
    except OSError as error:
        return error.strerror
    finally:
        os.close(out)


def mapped(fd, offset=0):
    with mmap.mmap(fd, PART, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, offset=offset) as pages:
        return pages[:]


def expect(got, wanted, what):
    if got != wanted:
        sys.exit("%s: %r, not %r" % (what, got[:20], wanted[:20]))


def expect_none_old(got, wanted, what):
    expect(got, wanted if isinstance(got, bytes) else "Invalid argument", what)


def live(path):
    fd = os.open(path, os.O_RDONLY)
    for byte in 1, 2, 3:
        part = bytes([byte]) * PART
        run("qemu-io", "-c", "write -q -P %d 0 4M" % byte, "store/live.qcow2")
        expect_none_old(sent(fd), part, path + " by sendfile")
        expect(os.pread(fd, PART, 0), part, path)
    shutil.copyfile(path, "out/copy")
    run("cmp", path, "out/copy")
    writer = subprocess.Popen(["qemu-nbd", "-k", os.path.abspath("out/sock"), "store/live.qcow2"])
    while not os.path.exists("out/sock"):
        time.sleep(0.01)
    if isinstance(sent(fd), bytes):
        sys.exit(path + " by sendfile, with a writer")
    while writer.poll() is None:  # qemu-nbd forgets a signal that comes before it serves
        writer.terminate()
        time.sleep(0.01)
    if os.path.exists("out/sock"):
        os.unlink("out/sock")
    os.close(fd)


def text(path, change, old, new):
    """Nobody gets the text of another time, and every program can copy it."""
    before = os.open(path, os.O_RDONLY)
    change()
    after = os.open(path, os.O_RDONLY)
    for fd, true, false in (before, old, new), (after, new, old):
        for got in sent(fd), os.pread(fd, PART, 0):
            if isinstance(got, bytes) and (false in got or true not in got):
                sys.exit("%s: %r" % (path, got))
        os.close(fd)
    wanted = open(path, "rb").read()
    shutil.copyfile(path, "out/copy")
    expect(open("out/copy", "rb").read(), wanted, path + " by shutil")
    for command in "cp %s out/copy", "cat %s >out/copy", "dd if=%s of=out/copy status=none":
        run("bash", "-c", command % path)
        expect(open("out/copy", "rb").read(), wanted, "%s by %s" % (path, command))


def another(path, replace):
    """Something else by the same name, while what was there is open: neither reads the other's."""
    fd = os.open(path, os.O_RDONLY)
    old, new = b"\1" * PART, b"\2" * PART
    expect(os.pread(fd, PART, 0), old, path)
    replace()
    other = os.open(path, os.O_RDONLY)
    for offset in 0, HALF:
        expect(sent(other, offset), new, path + ", replaced, by sendfile")
        expect(mapped(other, offset), new, path + ", replaced, by mmap")
        try:
            expect(os.pread(fd, PART, offset), old, path + " as it was")
        except OSError:
            pass  # it is gone, where nobody has its pages
        expect(os.pread(other, PART, offset), new, path + ", replaced")
    os.close(fd)
    os.close(other)


def several(path):
    """While two older snapshots of the name are open, the third and the fourth open at once."""

    def anew(byte):
        if byte > 1:
            run("qemu-img", "snapshot", "-d", "s", "store/again.qcow2")
        run("qemu-io", "-c", "write -q -P %d 0 4M" % byte, "store/again.qcow2")
        run("qemu-img", "snapshot", "-c", "s", "store/again.qcow2")
        fd = os.open(path, os.O_RDONLY)
        expect(os.pread(fd, PART, 0), bytes([byte]) * PART, "%s, number %d" % (path, byte))
        return fd

    first, second = anew(1), anew(2)
    os.close(first)
    if os.access("/proc/sys/vm/drop_caches", os.W_OK):  # so that its number is free again
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("2")
    for fd in second, anew(3), anew(4):
        os.close(fd)


def take_again():
    run("qemu-img", "snapshot", "-d", "s", "store/shots.qcow2")
    run("qemu-io", "-c", "write -q -P 2 0 4M", "store/shots.qcow2")
    run("qemu-img", "snapshot", "-c", "s", "store/shots.qcow2")


text("mnt/text.qcow2/info.json", lambda: run("qemu-img", "resize", "-q", "store/text.qcow2", "5M"),
     b" 4194304", b" 5242880")
text("mnt/astray.qcow2/error", lambda: run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "two.raw",
                                           "store/astray.qcow2"), b"one.raw", b"two.raw")
live("mnt/live.qcow2/disk")
live("mnt/live.qcow2/layers/0-live.qcow2")
another("mnt/shots.qcow2/snapshots/s", take_again)
another("mnt/over.qcow2/layers/1-base.qcow2", lambda: os.rename("new-base.qcow2", "store/base.qcow2"))
several("mnt/again.qcow2/snapshots/s")
END
python3 read.py
