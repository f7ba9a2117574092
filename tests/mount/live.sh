# The tree is live: whatever others do to the store shows at the next look-up, and no byte that
# is not true any more is ever read.
. "${SRCDIR:?run by ctest}/tests/mount/live.bash"

appear_and_vanish() {
    [ ! -e mnt/new.qcow2 ] || fail "shown before it is there"
    new_image store/new.qcow2 1
    assert_all mnt/new.qcow2/disk 1 "an image that appeared"
    ls mnt | grep -qx new.qcow2 || fail "not listed"
    mkdir store/dir
    mv store/new.qcow2 store/dir/
    [ ! -e mnt/new.qcow2 ] || fail "shown after it was moved"
    ! ls mnt | grep -qx new.qcow2 || fail "listed after it was moved"
    assert_all mnt/dir/new.qcow2/disk 1 "an image that was moved"
    rm -r store/dir
    [ ! -e mnt/dir ] || fail "a directory that was removed"
    assert_fails cat mnt/dir/new.qcow2/disk
}

# An open directory that is read from its start again shows what is there by then (rewinddir(3)), and
# one that is read on shows what was there.
read_again() {
    new_image store/again.qcow2 1
    qemu-img snapshot -c one store/again.qcow2
    python3 - <<'END' || fail "an open directory"
import ctypes, os, subprocess, sys

def img(*args):
    subprocess.check_call(("qemu-img",) + args, stdout=subprocess.DEVNULL)

root = os.open("mnt", os.O_RDONLY | os.O_DIRECTORY)
snapshots = os.open("mnt/again.qcow2/snapshots", os.O_RDONLY | os.O_DIRECTORY)
for turn in range(3):
    assert "extra.qcow2" not in os.listdir(root), turn
    assert os.listdir(snapshots) == ["one"], turn
    img("create", "-q", "-f", "qcow2", "store/extra.qcow2", "1M")
    img("snapshot", "-c", "two", "store/again.qcow2")
    assert "extra.qcow2" in os.listdir(root), turn
    assert sorted(os.listdir(snapshots)) == ["one", "two"], turn
    os.unlink("store/extra.qcow2")
    img("snapshot", "-d", "two", "store/again.qcow2")
def command(verb, numbers):
    for i in numbers:
        with open("mnt/again.qcow2/control", "w") as control:
            control.write("%s %03d%s" % (verb, i, "x" * 200))

def next_entries(fd):
    buffer = ctypes.create_string_buffer(4096)
    n = ctypes.CDLL(None).syscall(217 if os.uname().machine == "x86_64" else 61, fd, buffer, 4096)
    at = 0
    while at < n:
        length = int.from_bytes(buffer.raw[at + 16:at + 18], sys.byteorder)
        yield buffer.raw[at + 19:at + length].split(b"\0")[0]
        at += length

command("take", range(40)) # more than is read at a time
os.lseek(snapshots, 0, os.SEEK_SET)
names = list(next_entries(snapshots))
command("delete", range(0, 40, 2))
assert 2 < len(names) < 40, names
while more := list(next_entries(snapshots)):
    names += more
assert len(set(names)) == len(names) == 43, names # with . and ..
os.lseek(snapshots, 0, os.SEEK_SET)
assert len(os.listdir(snapshots)) == 21
END
    rm store/again.qcow2
}

# Another file under the same name, of the same size and with the same times.
replaced() {
    new_image store/a.qcow2 1
    assert_all mnt/a.qcow2/disk 1
    exec 7<mnt/a.qcow2/disk
    head -c 4096 <&7 >/dev/null
    local i
    for i in 2 3 4 5; do
        new_image store/next.qcow2 $i
        touch -r store/a.qcow2 store/next.qcow2
        mv store/next.qcow2 store/a.qcow2
        assert_all mnt/a.qcow2/disk $i "after mv number $i"
    done
    # The descriptor from before: the old file's bytes, or an error, never a mixture.
    head -c 65536 <&7 >old || true
    [ ! -s old ] || assert_all old 1 "an old descriptor"
    exec 7<&-
}

# Where an open file ends, whatever its name leads to by now.
ends() {
    local base
    for base in qcow2 raw; do
        qemu-img create -q -f $base store/under.$base 1M
        qemu-img create -q -f qcow2 -b under.$base -F $base store/ends.qcow2
        python3 - $base <<'END' || fail "over a $base image"
import os, subprocess, sys

base = "store/under." + sys.argv[1]

def img(*args):
    subprocess.check_call(("qemu-img",) + args, stdout=subprocess.DEVNULL)

def replace(path, size):
    img("create", "-q", "-f", path.rsplit(".", 1)[1], "store/next", size)
    os.rename("store/next", path)

def expect(fd, size, what):
    assert os.lseek(fd, 0, os.SEEK_END) == size, (what, os.lseek(fd, 0, os.SEEK_END))

disk = os.open("mnt/ends.qcow2/disk", os.O_RDONLY)
layer = os.open("mnt/ends.qcow2/layers/1-under." + sys.argv[1], os.O_RDONLY)
replace("store/ends.qcow2", "3M")
expect(disk, 1 << 20, "an image that was replaced")
expect(layer, 1 << 20, "a layer of it")
other = os.open("mnt/ends.qcow2/disk", os.O_RDONLY)
expect(other, 3 << 20, "what took its place")
expect(disk, 1 << 20, "an image that was replaced, once more")
img("resize", "-q", "store/ends.qcow2", "5M")
expect(other, 5 << 20, "an image that grew")
replace(base, "2M")
expect(layer, 1 << 20, "a layer that was replaced")
os.unlink("store/ends.qcow2")
expect(other, 5 << 20, "an image that was removed")
assert len(os.pread(other, 8 << 20, 0)) == 5 << 20
END
        rm -f store/under.$base
    done
}

changed_in_place() {
    new_image store/b.qcow2 1
    assert_all mnt/b.qcow2/disk 1
    local i
    for i in $(seq 2 20); do
        qemu-io -c "write -q -P $i 0 1M" store/b.qcow2
        assert_all mnt/b.qcow2/disk "$i" "disk, written $i times"
    done
    dd if=/dev/zero of=store/c.raw bs=64K count=16 status=none
    for i in $(seq 1 20); do
        qemu-io -f raw -c "write -q -P $i 0 1M" store/c.raw
        assert_all mnt/c.raw/disk "$i" "raw disk, written $i times"
    done
}

# The kernel may use attributes of directories for a few milliseconds, but not for another look-up.
attributes() {
    new_image store/attr.qcow2 1
    mkdir store/attrs
    python3 - <<'END' || fail "attributes of a look-up before"
import os, sys
watched = {"store/attr.qcow2": ["mnt/attr.qcow2", "mnt/attr.qcow2/disk", "mnt/attr.qcow2/layers",
                                "mnt/attr.qcow2/info.json", "mnt/attr.qcow2/control"],
           "store/attrs": ["mnt/attrs"]}
for path, shown in watched.items():
    for turn in range(300):
        mode = (0o700 if turn % 2 else 0o744) if os.path.isdir(path) else (0o600, 0o640)[turn % 2]
        os.chmod(path, mode)
        os.utime(path, ns=(0, 10**18 + turn * 10**9))
        for each in shown:
            now = os.stat(each)
            if now.st_mtime_ns != 10**18 + turn * 10**9:
                sys.exit("%s: mtime %d in turn %d" % (each, now.st_mtime_ns, turn))
            if bool(now.st_mode & 0o040) != bool(mode & 0o040):
                sys.exit("%s: mode %o in turn %d" % (each, now.st_mode, turn))
END
    rm -r store/attrs
}

# Those of files it may not use at all: answers to others who ask in the same moment would be old.
attributes_in_company() {
    python3 - <<'END' || fail "attributes that somebody else was told"
import os, sys
shown = ["mnt/attr.qcow2/disk", "mnt/attr.qcow2/info.json"]
parent = os.getpid()
for _ in range(3):
    if os.fork() == 0:
        while os.getppid() == parent:
            for each in shown:
                os.stat(each)
        os._exit(0)
for turn in range(1500):
    os.utime("store/attr.qcow2", ns=(0, 10**18 + turn * 10**9))
    for each in shown:
        now = os.stat(each).st_mtime_ns
        if now != 10**18 + turn * 10**9:
            sys.exit("%s: mtime %d in turn %d" % (each, now, turn))
END
    rm store/attr.qcow2
}

# Who reads a snapshot when its name comes to stand for a smaller one gets to its end, or an error.
smaller_meanwhile() {
    mkdir store/now store/next
    local size
    for size in 8M,now 1M,next; do
        qemu-img create -q -f qcow2 "store/${size#*,}/s.qcow2" "${size%,*}"
        qemu-io -c "write -q -P 7 0 1M" "store/${size#*,}/s.qcow2"
        qemu-img snapshot -c s "store/${size#*,}/s.qcow2"
    done
    exec 7<mnt/now/s.qcow2/snapshots/s
    head -c 4096 <&7 >/dev/null
    mv store/now store/last
    mv store/next store/now
    assert_eq "$(stat -c %s mnt/now/s.qcow2/snapshots/s)" 1048576 "size of what the name leads to"
    assert_eq "$(stat -L -c %s /dev/fd/7)" 8388608 "size of what is open"
    if cp /dev/fd/7 rest; then # opened once more, by its number
        assert_eq "$(head -c 1M rest | tr -d '\7' | wc -c)" 0 "a copy of what was open"
        assert_eq "$(stat -c %s rest)" 8388608 "a copy of what was open"
    fi
    assert_eq "$(wc -c <mnt/now/s.qcow2/snapshots/s)" 1048576 "bytes of what the name leads to"
    if cat <&7 >rest; then
        assert_eq "$(stat -c %s rest)" $((8388608 - 4096)) "bytes of what was open"
    fi
    exec 7<&-
    rm -r store/now store/last
}

# A descriptor that stays open across a change gives the new bytes, or an error.
open_across_a_change() {
    new_image store/d.qcow2 1
    python3 - mnt/d.qcow2/disk store/d.qcow2 <<'END' || fail "stale bytes through an open descriptor"
import os, subprocess, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for byte in range(1, 30):
    if byte > 1:
        # With the disk in use below, the cluster is replaced, or rewritten where it is.
        subprocess.run(["qemu-io", "-c", "write -q -P %d 0 1M" % byte, sys.argv[2]], check=True)
        if byte % 5 == 0:
            subprocess.run(["qemu-img", "snapshot", "-c", "s%d" % byte, sys.argv[2]], check=True)
    for offset in (0, 4096, 700000, 1048576 - 10):
        try:
            got = os.pread(fd, 8192, offset)
        except OSError:
            continue
        if set(got) != {byte}:
            sys.exit("after write %d: %r at %d" % (byte, sorted(set(got)), offset))
END
    check_clean store/d.qcow2
}

snapshots_of_others() {
    new_image store/e.qcow2 1
    assert_eq "$(ls mnt/e.qcow2/snapshots)" ""
    qemu-img snapshot -c theirs store/e.qcow2
    assert_eq "$(ls mnt/e.qcow2/snapshots)" theirs "after qemu-img snapshot -c"
    qemu-io -c "write -q -P 2 0 1M" store/e.qcow2
    assert_all mnt/e.qcow2/snapshots/theirs 1
    assert_all mnt/e.qcow2/disk 2
    qemu-img snapshot -a theirs store/e.qcow2
    assert_all mnt/e.qcow2/disk 1 "after qemu-img snapshot -a"
    qemu-img snapshot -d theirs store/e.qcow2
    [ ! -e mnt/e.qcow2/snapshots/theirs ] || fail "shown after qemu-img snapshot -d"
    # The same name and id again, other content.
    qemu-io -c "write -q -P 3 0 1M" store/e.qcow2
    qemu-img snapshot -c theirs store/e.qcow2
    qemu-io -c "write -q -P 4 0 1M" store/e.qcow2
    assert_all mnt/e.qcow2/snapshots/theirs 3 "a new snapshot of the same name"
}

# A snapshot that qemu-img deletes under an open descriptor, its clusters used again.
snapshot_deleted_under_a_reader() {
    new_image store/f.qcow2 1
    qemu-img snapshot -c s store/f.qcow2
    qemu-io -c "write -q -P 2 0 1M" store/f.qcow2
    exec 7<mnt/f.qcow2/snapshots/s
    head -c 100000 <&7 >part
    assert_all part 1
    qemu-img snapshot -d s store/f.qcow2
    qemu-img snapshot -c t store/f.qcow2
    qemu-io -c "write -q -P 3 0 1M" store/f.qcow2
    cat <&7 >rest || true
    [ ! -s rest ] || assert_all rest 1 "a deleted snapshot"
    exec 7<&-
}

# Our own commands, with a reader that opens anew each time.
after_our_commands() {
    new_image store/g.qcow2 1
    assert_all mnt/g.qcow2/disk 1
    control_ok mnt/g.qcow2/control "take one"
    qemu-io -c "write -q -P 2 0 1M" store/g.qcow2
    assert_all mnt/g.qcow2/disk 2
    control_ok mnt/g.qcow2/control "take two" "revert one"
    assert_all mnt/g.qcow2/disk 1 "after revert"
    assert_all mnt/g.qcow2/snapshots/two 2
    control_ok mnt/g.qcow2/control "delete one" "rename two one"
    assert_all mnt/g.qcow2/snapshots/one 2 "the name of a snapshot that was deleted"
    [ ! -e mnt/g.qcow2/snapshots/two ] || fail "the old name of a renamed snapshot"
    check_clean store/g.qcow2
}

# An image is copied over from a backup while one of its snapshots is read: what is not there yet
# cannot be read, zeros would be wrong; and what is there again can.
copied_over() {
    qemu-img create -q -f qcow2 -o cluster_size=4096 store/over.qcow2 64M
    qemu-io -c "write -q -P 1 0 8M" store/over.qcow2
    qemu-img snapshot -c old store/over.qcow2
    qemu-io -c "write -q -P 2 0 32M" store/over.qcow2
    qemu-img snapshot -c s store/over.qcow2
    qemu-img snapshot -d old store/over.qcow2 # 8 MiB are free, so that the next table comes to lie low
    control_ok mnt/over.qcow2/control "take t" "rename t u"
    cp store/over.qcow2 backup
    python3 - <<'END' || fail "see above"
import os, threading, time
PLACES = [0, 10 << 20, 20 << 20, 26 << 20, 30 << 20]
backup = open("backup", "rb").read()
image = os.open("store/over.qcow2", os.O_RDWR)
snapshot = os.open("mnt/over.qcow2/snapshots/s", os.O_RDONLY)

def read(place):
    try:
        return os.pread(snapshot, 4096, place)
    except OSError:
        return None

assert read(0) == b"\2" * 4096
half = len(backup) // 2
for early in False, True: # whether somebody reads while the file is empty, and waits for its header
    os.ftruncate(image, 0)
    os.posix_fadvise(snapshot, 0, 0, os.POSIX_FADV_DONTNEED)
    reader = threading.Thread(target=read, args=[PLACES[-1]])
    if early:
        reader.start()
        time.sleep(0.005)
    for start, end in (0, half), (half, len(backup)):
        at = start
        while at < end:
            at += os.pwrite(image, backup[at:end], at)
        if early and end == half:
            reader.join()
        os.posix_fadvise(snapshot, 0, 0, os.POSIX_FADV_DONTNEED)
        got = [read(place) for place in PLACES]
        assert all(g in (None, b"\2" * 4096) for g in got), "half way" if end == half else "at the end"
    time.sleep(0.1)
    os.posix_fadvise(snapshot, 0, 0, os.POSIX_FADV_DONTNEED)
    assert [read(place) for place in PLACES] == [b"\2" * 4096] * len(PLACES), "what is there again"
END
    rm backup
}

resized() {
    new_image store/h.qcow2 1
    assert_eq "$(stat -c %s mnt/h.qcow2/disk)" 1048576
    qemu-img resize -q store/h.qcow2 5M
    assert_eq "$(stat -c %s mnt/h.qcow2/disk)" 5242880 "size after resize"
    assert_eq "$(wc -c <mnt/h.qcow2/disk)" 5242880 "bytes after resize"
    qemu-img resize -q --shrink store/h.qcow2 512K
    assert_eq "$(stat -c %s mnt/h.qcow2/disk)" 524288 "size after shrinking"
    assert_all mnt/h.qcow2/disk 1
}

# What an open layer has lost cannot be read; the kernel would give zeros for it.
shrunk_beneath() {
    new_image store/low.qcow2 1
    qemu-img create -q -f qcow2 -b low.qcow2 -F qcow2 store/high.qcow2
    python3 - <<'END' || fail "a layer that was cut off"
import errno, os, subprocess
layer = os.open("mnt/high.qcow2/layers/1-low.qcow2", os.O_RDONLY)
assert os.pread(layer, 4096, 0) == b"\1" * 4096
subprocess.check_call(["qemu-img", "resize", "-q", "--shrink", "store/low.qcow2", "512K"])
try:
    raise SystemExit(os.pread(layer, 4096, 700000)[:8])
except OSError as error:
    assert error.errno == errno.EIO, error
END
    rm store/high.qcow2 store/low.qcow2
}

mkdir store
mount_store store mnt
appear_and_vanish
read_again
attributes
attributes_in_company
replaced
ends
smaller_meanwhile
changed_in_place
open_across_a_change
snapshots_of_others
snapshot_deleted_under_a_reader
after_our_commands
copied_over
resized
shrunk_beneath
unmount_store mnt
