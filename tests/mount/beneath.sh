# The tree is live as to what lies beneath an image: its backing files are written, moved, replaced and
# cut off while it is read, and no byte that is not true any more is ever read.
. "${SRCDIR:?run by ctest}/tests/mount/live.bash"

# A raw layer that is cut off beneath its reader: no zeros in the place of what is gone.
layer_cut_off() {
    head -c 8M /dev/zero | tr '\0' '\7' >store/cut.raw
    (cd store && qemu-img create -q -f qcow2 -b cut.raw -F raw cutoff.qcow2)
    sleep 0.1
    python3 - <<'END' || fail "a layer that was cut off"
import os, sys
fd = os.open("mnt/cutoff.qcow2/layers/1-cut.raw", os.O_RDONLY)
assert os.pread(fd, 4096, 0) == b"\7" * 4096
os.truncate("store/cut.raw", 1 << 20)
for turn in range(3):
    for look in os.fstat, lambda fd: os.stat("mnt/cutoff.qcow2/layers/1-cut.raw"):
        look(fd)
        try:
            got = os.pread(fd, 4096, 4 << 20)
        except OSError:
            continue
        if got.strip(b"\7"):
            sys.exit("%r in turn %d" % (got[:8], turn))
END
    rm store/cut*
}

# ... nor of a layer that gets smaller; and what is read of it is of the file that was opened, which
# the reader might, not of another one in its place.
layer_shrunk_or_replaced() {
    new_image store/low.qcow2 7
    new_image store/low2.qcow2 9
    (cd store && qemu-img create -q -f qcow2 -b low.qcow2 -F qcow2 high.qcow2)
    sleep 0.1
    python3 - <<'END' || fail "a layer that was replaced, then one that was shrunk"
import os, subprocess, sys
disk = os.open("mnt/high.qcow2/disk", os.O_RDONLY)
assert os.pread(disk, 4096, 0) == b"\7" * 4096
os.rename("store/low2.qcow2", "store/low.qcow2")
for turn in range(3):
    try:
        got = os.pread(disk, 4096, 512 << 10)
    except OSError:
        continue
    assert got == b"\7" * 4096, "bytes of a file that was not opened: %r" % got[:8]
os.close(disk)

layer = os.open("mnt/high.qcow2/layers/1-low.qcow2", os.O_RDONLY)
assert os.pread(layer, 4096, 0) == b"\11" * 4096
subprocess.run("qemu-img resize -q --shrink store/low.qcow2 256K".split(), check=True)
for turn in range(3):
    try:
        got = os.pread(layer, 4096, 768 << 10)
    except OSError:
        continue
    assert got == b"\11" * 4096 or got == b"", "zeros that nobody wrote: %r" % got[:8]
END
    rm store/low.qcow2 store/high.qcow2
}

# The same file beneath, by the same name, but to be read as something else now.
other_format_beneath() {
    new_image store/either.qcow2 7
    (cd store && qemu-img create -q -f qcow2 -b either.qcow2 -F qcow2 views.qcow2)
    sleep 0.1
    assert_all mnt/views.qcow2/disk 7
    (cd store && qemu-img rebase -q -u -b either.qcow2 -F raw views.qcow2)
    assert_eq "$(head -c 3 mnt/views.qcow2/disk)" QFI "the bytes of the file itself"
    (cd store && qemu-img rebase -q -u -b either.qcow2 -F qcow2 views.qcow2)
    assert_all mnt/views.qcow2/disk 7
    rm store/either.qcow2 store/views.qcow2
}

# A file beneath that was refused for what is in it is looked at anew when there is another.
refused_beneath() {
    qemu-img create -q -f qcow2 store/looks.qcow2 1M
    head -c 1M /dev/zero | tr '\0' '\7' >plain
    qemu-img create -q -f qcow2 store/vague.qcow2 1M
    python3 - store/vague.qcow2 <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    f.seek(8)
    f.write(struct.pack(">QI", 1024, 11))
    f.seek(1024)
    f.write(b"looks.qcow2")
END
    sleep 0.1
    assert_match "$(cat mnt/vague.qcow2/error)" "its format is not stated"
    sleep 0.1
    cat mnt/vague.qcow2/error >/dev/null
    mv plain store/looks.qcow2
    assert_eq "$(head -c 4 mnt/vague.qcow2/disk | od -An -tx1)" " 07 07 07 07" "once it looks like nothing"
    rm store/looks.qcow2 store/vague.qcow2
}

# A backing file that was removed is let go, also while the image above it is looked at.
removed_is_let_go() {
    qemu-img create -q -f qcow2 store/gone.qcow2 1M
    (cd store && qemu-img create -q -f qcow2 -b gone.qcow2 -F qcow2 rests.qcow2)
    sleep 0.1
    cat mnt/rests.qcow2/disk >/dev/null
    local worker i
    worker=$(worker_of "$(daemon_of mnt)")
    ls -l "/proc/$worker/fd" | grep 'gone.qcow2$' >/dev/null || fail "the daemon did not keep it open"
    rm store/gone.qcow2
    for i in $(seq 20); do
        ls -l mnt >/dev/null
        ls -l "/proc/$worker/fd" | grep -q 'gone.qcow2 (deleted)' || break
        sleep 0.5
    done
    ((i < 20)) || fail "the daemon holds what was removed"
    rm store/rests.qcow2
}

backing_file_changes() {
    new_image store/base.qcow2 1
    (cd store && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2)
    assert_all mnt/over.qcow2/disk 1
    qemu-io -c "write -q -P 2 0 1M" store/base.qcow2
    assert_all mnt/over.qcow2/disk 2 "the backing file was written"
    assert_all mnt/over.qcow2/layers/1-base.qcow2 2 "layer 1"
    new_image store/next.qcow2 3
    mv store/next.qcow2 store/base.qcow2
    assert_all mnt/over.qcow2/disk 3 "the backing file was replaced"
    rm store/base.qcow2
    [ -s mnt/over.qcow2/error ] || fail "no error although the backing file is gone"
    new_image store/base.qcow2 4
    assert_all mnt/over.qcow2/disk 4 "the backing file is back"
    [ ! -e mnt/over.qcow2/error ] || fail "an error although all is well again"
}

# Who has opened an image goes on reading what it rested on then, as with any file that is moved away.
backing_file_moved_while_open() {
    new_image store/here.qcow2 1
    new_image store/other.qcow2 2
    truncate -s 1M store/here.raw store/other.raw
    (cd store && qemu-img create -q -f qcow2 -b here.qcow2 -F qcow2 over1.qcow2 &&
        qemu-img create -q -f qcow2 -b over1.qcow2 -F qcow2 over2.qcow2 &&
        qemu-img create -q -f qcow2 -b here.raw -F raw over3.qcow2)
    qemu-img snapshot -c s store/over1.qcow2
    printf '%1048576s' '' | tee store/here.raw >/dev/null
    python3 - <<'END' || fail "see above"
import os
want = {"over1.qcow2/disk": b"\1", "over1.qcow2/snapshots/s": b"\1", "over1.qcow2/layers/1-here.qcow2": b"\1",
        "over2.qcow2/disk": b"\1", "over2.qcow2/layers/1-over1.qcow2": b"\1", "over3.qcow2/disk": b" "}
files = {name: os.open("mnt/" + name, os.O_RDONLY) for name in want}
def read_all(offset):
    for name, fd in files.items():
        assert os.pread(fd, 4096, offset) == want[name] * 4096, (name, offset)
read_all(0)
for n, (old, new) in enumerate((("here.%s", "away.%s"), ("other.%s", "here.%s"), ("away.%s", None))):
    for kind in "qcow2", "raw":
        os.rename("store/" + old % kind, "store/" + new % kind) if new else os.unlink("store/" + old % kind)
    read_all((n + 1) * 200 * 1024)
END
    assert_all mnt/over2.qcow2/disk 2 "opened anew"
}

# A layer that has nothing to say of a place is given something there, and back, while the disk is
# open: the next read shows it, however soon it comes.
layer_written_while_open() {
    new_image store/low.qcow2 1
    (cd store && qemu-img create -q -f qcow2 -b low.qcow2 -F qcow2 mid.qcow2 &&
        qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 high.qcow2)
    cp store/mid.qcow2 mid.empty
    qemu-io -c "write -q -P 2 0 64K" store/mid.qcow2
    cp store/mid.qcow2 mid.full
    cat mid.empty >store/mid.qcow2
    python3 - <<'END' || fail "see above"
import os
empty, full = (open("mid." + name, "rb").read() for name in ("empty", "full"))
layer = os.open("store/mid.qcow2", os.O_RDWR)
disk = os.open("mnt/high.qcow2/disk", os.O_RDONLY)
for i in range(20):
    wanted, bytes = [(1, empty), (2, full)][i % 2]
    os.ftruncate(layer, len(bytes))
    os.pwrite(layer, bytes, 0)
    for again in range(3):
        got = os.pread(disk, 1, 4096)[0]
        assert got == wanted, "round %d: %d, not %d" % (i, got, wanted)
END
}

# The header names another backing file, by a name that is as long.
other_backing_file() {
    local layer
    for layer in a b; do
        uniform_image store/low-$layer.qcow2 16M 0x$layer
    done
    (cd store && qemu-img create -q -f qcow2 -b low-a.qcow2 -F qcow2 top.qcow2)
    qemu-img snapshot -c s store/top.qcow2
    python3 - <<'END' || fail "see above"
import os, subprocess
snapshot = os.open("mnt/top.qcow2/snapshots/s", os.O_RDONLY)
assert os.pread(snapshot, 4096, 0) == b"\x0a" * 4096
subprocess.run("qemu-img rebase -u -b low-b.qcow2 -F qcow2 top.qcow2", shell=True, check=True, cwd="store")
try: # far from what the kernel has read ahead
    got = os.pread(snapshot, 4096, 15 << 20)
except OSError:
    got = None
assert got != b"\x0a" * 4096, "the old backing file's bytes"
END
    assert_all mnt/top.qcow2/snapshots/s 11
}

# How many bytes of a file the kernel has in its page cache once it is open.
cached() { # FILE
    python3 - "$1" <<'END'
import ctypes, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
pages = mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
there = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(pages)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.mincore(address, ctypes.c_size_t(size), there):
    sys.exit(os.strerror(ctypes.get_errno()))
print(sum(page & 1 for page in there) * mmap.PAGESIZE)
END
}

# What is written to an overlay changes nothing in the layers beneath it, whose pages stay. Of the disk
# there never are any. (A host may take single pages back at any time, of any file.)
pages_beneath_a_writer() {
    local kept
    new_image store/golden.qcow2 1
    (cd store && qemu-img create -q -f qcow2 -b golden.qcow2 -F qcow2 vm.qcow2)
    sleep 0.1 # a file that has just changed is trusted for nothing
    assert_all mnt/vm.qcow2/layers/1-golden.qcow2 1
    assert_all mnt/vm.qcow2/disk 1
    qemu-io -c 'write -q -P 2 0 64K' store/vm.qcow2
    kept=$(cached mnt/vm.qcow2/layers/1-golden.qcow2)
    case $(stat -f -c %T store) in
        tmpfs | overlayfs) [ "$kept" = 0 ] || fail "$kept bytes of the layer are kept, where writes may not show" ;;
        *) [ "$kept" -ge 524288 ] || fail "of 1048576 bytes of the layer $kept are left" ;;
    esac
    assert_eq "$(cached mnt/vm.qcow2/disk)" 0 "of the disk"
    qemu-io -c 'write -q -P 3 0 1M' store/golden.qcow2
    assert_eq "$(cached mnt/vm.qcow2/layers/1-golden.qcow2)" 0 "of a layer that has changed"
    assert_all mnt/vm.qcow2/layers/1-golden.qcow2 3
}

mkdir store
mount_store store mnt
pages_beneath_a_writer
layer_cut_off
layer_shrunk_or_replaced
other_format_beneath
refused_beneath
[ "$(id -u)" != 0 ] || removed_is_let_go # nobody else may look at what the daemon has open
backing_file_changes
backing_file_moved_while_open
layer_written_while_open
other_backing_file
unmount_store mnt
