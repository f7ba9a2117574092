# Raw layers, which the kernel reads by itself where it can: they read as they are at this moment,
# in every way of reading, also when they change, grow, are cut off or replaced meanwhile; what may
# not be read that way is not; no number of opens uses it up.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img python3
requires_root
requires_fuse
[ "$(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1)" = 6.9 ] || skip "needs Linux 6.9"

SIZE=$((16 << 20))

make_store() {
    mkdir store mnt
    noise base $SIZE >store/base.raw
    noise odd 1000001 >store/odd.raw
    cp store/odd.raw odd.was
    truncate -s %512 odd.was
    qemu-img create -q -f qcow2 -b base.raw -F raw store/one.qcow2
    qemu-img create -q -f qcow2 -b base.raw -F raw store/two.qcow2
    qemu-img create -q -f qcow2 -b odd.raw -F raw store/odd.qcow2
    LAYER=mnt/one.qcow2/layers/1-base.raw
}

# A daemon in the foreground: $DAEMON, and $WORKER, the process in it that serves.
start() { # OPTION...
    "$SNAPTREE" -f "$@" "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null
    WORKER=$(worker_of "$DAEMON")
}

stop() {
    fusermount3 -u mnt
    wait "$DAEMON" || fail "the daemon's status is $?"
    ! grep -v "^snaptree: \(confined\|not confined\)" daemon.log || fail "it said more"
}

# How many bytes the daemon reads while a command runs.
bytes_of_daemon() { # COMMAND...
    local before
    before=$(awk '/^rchar/ { print $2 }' "/proc/$WORKER/io")
    "$@" || fail "$*"
    echo $(($(awk '/^rchar/ { print $2 }' "/proc/$WORKER/io") - before))
}

# Whether the kernel reads a file by itself; its bytes have to be right either way.
is_passed() { # FILE WANTED
    local bytes
    bytes=$(bytes_of_daemon cmp "$1" "$2") || exit
    [ "$bytes" -lt $(($(stat -c %s "$2") / 4)) ]
}

assert_passed() { # FILE WANTED
    is_passed "$1" "$2" || fail "$1: the daemon was asked"
}

assert_not_passed() { # FILE WANTED
    ! is_passed "$1" "$2" || fail "$1: the daemon was not asked"
}

check_ways_of_reading() {
    assert_passed $LAYER base.was
    assert_passed mnt/two.qcow2/layers/1-base.raw base.was
    dd if=$LAYER bs=4096 iflag=direct status=none | cmp - base.was || fail "direct I/O"
    tail -c 12345 $LAYER | cmp - <(tail -c 12345 base.was) || fail "its end"
    python3 - $LAYER base.was <<'END' || fail "mapping, or searching for holes"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
with open(sys.argv[2], "rb") as f:
    assert mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:] == f.read()
assert os.lseek(fd, 4096, os.SEEK_DATA) == 4096
assert os.lseek(fd, 4096, os.SEEK_HOLE) == os.stat(sys.argv[2]).st_size
END
    assert_fails sh -c "echo x >$LAYER"
}

# A disk that somebody may begin to write to, and one that ends within a sector.
check_what_is_not_passed() {
    assert_not_passed mnt/one.qcow2/disk base.was
    assert_not_passed mnt/base.raw/disk base.was
    assert_not_passed mnt/base.raw/layers/0-base.raw base.was
    assert_not_passed mnt/odd.qcow2/layers/1-odd.raw odd.was
}

# All of what is open must be the file's bytes, as they are now.
is_open_as() { # FILE
    cmp <(python3 -c 'import os, sys
sys.stdout.buffer.write(os.pread(3, 1 << 30, 0))') "$1"
}

check_changes() {
    exec 3<$LAYER
    noise changed 8192 | dd of=store/base.raw bs=4096 seek=100 conv=notrunc status=none
    is_open_as store/base.raw || fail "open, when it changed"
    assert_passed $LAYER store/base.raw

    cp store/base.raw was.raw
    noise other $SIZE >other.raw
    cp other.raw store/new && mv store/new store/base.raw
    is_open_as was.raw || fail "open, when it was replaced"
    assert_passed $LAYER other.raw
    is_open_as was.raw || fail "open, when another file has its name"
    exec 3<&-
    assert_passed $LAYER other.raw
}

# Another size is another file to the kernel, while the one before is open.
check_sizes() {
    local size
    for size in $((SIZE + 4096)) $((SIZE / 2)); do
        exec 3<$LAYER
        truncate -s $size store/base.raw
        is_open_as store/base.raw || fail "open, when its size became $size"
        assert_eq "$(stat -c %s $LAYER)" $size "size"
        assert_passed $LAYER store/base.raw
        exec 3<&-
    done
}

# More opens than the keeper would let be at once, one after the other and many together.
check_numbers() {
    python3 - $LAYER <<'END' || fail "many opens"
import os, sys
for i in range(5000):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
all = [os.open(sys.argv[1], os.O_RDONLY) for i in range(1000)]
assert len({os.pread(fd, 4096, 8192) for fd in all}) == 1
END
    assert_passed $LAYER store/base.raw
}

# Everything once more with other bytes than those that the kernel may have kept.
begin() { # OPTION...
    noise "base $*" $SIZE >store/base.raw
    cp store/base.raw base.was
    start "$@"
}

make_store
begin
check_ways_of_reading
check_what_is_not_passed
check_changes
check_sizes
check_numbers
stop

begin -o sandbox=off
check_ways_of_reading
check_changes
stop

begin -o ro
check_ways_of_reading
stop

begin -o backing=any # its files may lie anywhere
assert_not_passed $LAYER base.was
stop
