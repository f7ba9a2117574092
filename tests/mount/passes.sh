# The first time that a snapshot is read from end to end, its image does not go to the page cache of
# the host; what comes after it finds there what it needs. Right are the bytes always.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 cmp mkfs.ext4
requires_root # for a file system that is known
requires_fuse
MIB=96

mkdir fs mnt
truncate -s 700M volume
mkfs.ext4 -q -F volume
mount -o loop volume fs
mkdir fs/store
ln -s fs/store store

seq 13000000 >data.raw
truncate -s ${MIB}M data.raw
make_image() { # NAME
    qemu-img convert -O qcow2 data.raw "store/$1"
    qemu-img snapshot -c monday "store/$1"
    qemu-io -c 'write -q -P 7 1M 64k' "store/$1"
    qemu-img snapshot -c tuesday "store/$1"
}

# How much of a file, or of its beginning, the page cache has, in percent.
cached() { # FILE [MIB]
    python3 - "$@" <<'EOF'
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
fd = os.open(sys.argv[1], os.O_RDONLY)
size = int(sys.argv[2]) << 20 if sys.argv[2:] else os.fstat(fd).st_size
at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
pages = ctypes.create_string_buffer((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE)
if libc.mincore(at, size, pages) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print(100 * sum(page & 1 for page in pages.raw) // len(pages))
EOF
}

# Bring this much of a file into the page cache, and only that.
cache_only() { # FILE MIB
    sync "$1"
    dd if="$1" iflag=nocache count=0 status=none
    dd if="$1" of=/dev/null bs=1M count="$2" status=none
}

has_little() { # FILE WHAT
    local percent
    percent=$(cached "$1")
    [ "$percent" -le 10 ] || fail "$2: $percent% of $1 are in the page cache"
}

has_much() { # FILE WHAT [MIB]
    local percent
    percent=$(cached "$1" "${@:3}")
    [ "$percent" -ge 90 ] || fail "$2: $percent% of $1 are in the page cache"
}

read_snapshot() { # IMAGE SNAPSHOT
    cmp "mnt/$1/snapshots/$2" "$2.raw" || fail "snapshot $2 of $1"
}

cp data.raw monday.raw
cp data.raw tuesday.raw
python3 -c 'f = open("tuesday.raw", "r+b"); f.seek(1 << 20); f.write(b"\7" * 65536)'

# ---- once, and once more ----

make_image web.qcow2
cache_only store/web.qcow2 0
has_little store/web.qcow2 "at first"
start_daemon
exec 3<mnt/web.qcow2/snapshots/monday # so that the image stays open
cmp - monday.raw <&3 || fail "the first pass"
has_little store/web.qcow2 "a first pass"
read_snapshot web.qcow2 tuesday
has_much store/web.qcow2 "a second pass"
exec 3<&-
stop_daemon

# ---- two at once: each finds what the other has read ----

cache_only store/web.qcow2 0
start_daemon
exec 3<mnt/web.qcow2/snapshots/monday
head -c 1M <&3 >first.raw
exec 4<mnt/web.qcow2/snapshots/tuesday
cmp -n 1048576 - tuesday.raw <&4 || fail "the second of two"
cat <&3 >>first.raw
cmp first.raw monday.raw || fail "the first of two"
has_much store/web.qcow2 "two passes at once"
exec 3<&- 4<&-
stop_daemon

# ---- where it is of no use, or in the way ----

cache_only store/web.qcow2 $((MIB / 2))
start_daemon
read_snapshot web.qcow2 monday
has_much store/web.qcow2 "what was in the cache in part"
stop_daemon

cache_only store/web.qcow2 0
start_daemon
exec 3<>store/web.qcow2
read_snapshot web.qcow2 monday
has_much store/web.qcow2 "what somebody may write to"
exec 3<&-
stop_daemon

cache_only store/web.qcow2 0
start_daemon
cmp mnt/web.qcow2/disk tuesday.raw || fail "the disk"
has_much store/web.qcow2 "what the kernel keeps nothing of"
stop_daemon

# Its data is a small part of the file, whose length tells of holes above all.
qemu-img create -q -f qcow2 -o preallocation=metadata store/sparse.qcow2 8G
qemu-io -c "write -q -s data.raw 0 ${MIB}M" store/sparse.qcow2
qemu-img snapshot -c monday store/sparse.qcow2
cache_only store/sparse.qcow2 $((MIB / 2))
start_daemon
cmp -n $((MIB << 20)) mnt/sparse.qcow2/snapshots/monday monday.raw || fail "what has holes"
has_much store/sparse.qcow2 "what was in the cache in part, and has holes" $MIB
stop_daemon
rm store/sparse.qcow2

# Its beginning has more holes than are looked at.
qemu-img create -q -f qcow2 -o preallocation=metadata store/holes.qcow2 192M
for ((i = 0; i < 1280; i++)); do echo "write -q -P 3 $((i * 64))k 4k"; done | qemu-io store/holes.qcow2 >/dev/null
qemu-io -c "write -q -s data.raw 96M ${MIB}M" store/holes.qcow2
qemu-img snapshot -c monday store/holes.qcow2
cache_only store/holes.qcow2 0
dd if=store/holes.qcow2 of=/dev/null bs=1M skip=144 status=none
start_daemon
cmp -i $((MIB << 20)):0 mnt/holes.qcow2/snapshots/monday monday.raw || fail "what has many holes"
[ "$(cached store/holes.qcow2)" -ge 45 ] || fail "what was read of it, a half, is not in the cache"
stop_daemon
rm store/holes.qcow2

qemu-img create -q -f qcow2 store/small.qcow2 32M
qemu-io -c 'write -q -P 5 0 32M' store/small.qcow2
qemu-img snapshot -c friday store/small.qcow2
cache_only store/small.qcow2 0
start_daemon
assert_eq "$(tr -d "\5" <mnt/small.qcow2/snapshots/friday | wc -c)" 0 "other bytes in a small one"
has_much store/small.qcow2 "what is small"
stop_daemon
rm store/small.qcow2

# What others may rest on as well.
qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 store/top.qcow2
qemu-img snapshot -c tuesday store/top.qcow2
cache_only store/web.qcow2 0
start_daemon
read_snapshot top.qcow2 tuesday
has_much store/web.qcow2 "what lies beneath a snapshot"
stop_daemon
cache_only store/web.qcow2 0
start_daemon
cmp mnt/top.qcow2/layers/1-web.qcow2 tuesday.raw || fail "the layer"
has_much store/web.qcow2 "a layer"
stop_daemon
rm store/top.qcow2

# ---- while commands change the image ----

change() {
    until [ -e enough ]; do
        echo "take now" && echo "revert tuesday" && echo "delete now" || touch failed
    done >mnt/web.qcow2/control
}

start_daemon
change &
CHANGER=$!
for i in 1 2 3 4 5 6; do
    cache_only store/web.qcow2 0
    read_snapshot web.qcow2 monday
    dd if=mnt/web.qcow2/snapshots/monday iflag=nocache count=0 status=none
done
touch enough
wait "$CHANGER"
[ ! -e failed ] || fail "a command beside it: $(cat mnt/web.qcow2/control)"
stop_daemon
check_clean store/web.qcow2
umount fs
