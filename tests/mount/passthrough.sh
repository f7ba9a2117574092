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
    dd if=$LAYER bs=1000 skip=7 iflag=direct status=none | cmp - <(tail -c +7001 base.was) ||
        fail "direct I/O from anywhere"
    [ "$(bytes_of_daemon dd if=$LAYER of=/dev/null bs=4096 iflag=direct status=none)" -ge $SIZE ] ||
        fail "direct I/O: the daemon was not asked"
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

# All of what is open must be the file's bytes, as they are now; and its size and holes too.
is_open_as() { # FILE
    python3 -c 'import os, sys
with open(sys.argv[1], "rb") as file:
    wanted = file.read()
assert os.pread(3, 1 << 30, 0) == wanted, "bytes"
assert os.fstat(3).st_size == len(wanted), (os.fstat(3), len(wanted))
assert os.lseek(3, len(wanted) - 4096, os.SEEK_DATA) == len(wanted) - 4096
assert os.lseek(3, 0, os.SEEK_HOLE) == len(wanted)' "$1"
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
    assert_fails sh -c ': </proc/self/fd/3' # of the file that it was there is nothing in the tree
    # What no name leads to any more has blocks: tar takes a file without any for one hole.
    assert_eq "$(stat -L -c '%F %s %b' /proc/self/fd/3)" "regular file $SIZE 1" "its attributes"
    exec 3<&-
    assert_passed $LAYER other.raw
}

# One file after the other takes the name, while some of those before are open.
check_replacements() {
    python3 - $LAYER store/base.raw <<'END' || fail "replaced"
import os, sys
layer, file = sys.argv[1:]

def replace(byte):
    with open("store/new", "wb") as new:
        new.write(byte * (1 << 20))
    os.rename("store/new", file)

def opened(byte):
    fd = os.open(layer, os.O_RDONLY)
    assert os.pread(fd, 1, 4096) == byte
    return fd

replace(b"A")
first = opened(b"A")
replace(b"B")
second = opened(b"B")
os.close(first)
third = opened(b"B")
replace(b"C")
fourth = opened(b"C")
assert os.pread(second, 1, 0) == os.pread(third, 1, 0) == b"B"
numbers = {fd: os.fstat(fd).st_ino for fd in (second, third, fourth)}
assert numbers[second] == numbers[third] != numbers[fourth], numbers
END
}

# Everybody opens, reads and maps while the file is replaced, cut off and written all the time.
check_commotion() {
    python3 - $LAYER mnt/two.qcow2/layers/1-base.raw store/base.raw <<'END' || fail "commotion"
import mmap, os, random, sys, threading, time
*layers, file = sys.argv[1:]
end = time.monotonic() + 3
wrong = []

def change():
    turn = random.Random("change")
    while time.monotonic() < end:
        if turn.random() < 0.6:
            with open("store/new", "wb") as new:
                new.write(bytes([turn.randrange(256)]) * (1 << 20))
            os.rename("store/new", file)
        else:
            os.truncate(file, turn.choice([1 << 19, 1 << 20, 1 << 21]))
        time.sleep(0.1) # an open takes a fifth of that when the file has just changed

def read(seed):
    turn, held = random.Random(seed), []
    while time.monotonic() < end and not wrong:
        try:
            fd = os.open(turn.choice(layers), os.O_RDONLY)
            held.append(fd)
            got = os.pread(fd, 4096, 4096)
            with mmap.mmap(fd, 8192, prot=mmap.PROT_READ) as mapped:
                mapped[5000]
            if len(set(got)) != 1:
                wrong.append("bytes of two files")
        except OSError as error:
            wrong.append(repr(error))
        if len(held) > 6:
            os.close(held.pop(turn.randrange(len(held))))

threads = [threading.Thread(target=change)] + [threading.Thread(target=read, args=[i]) for i in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\n".join(wrong) or 0)
END
}

# The file grows, and is cut off.
check_sizes() {
    local change
    for change in "noise more 4096 >>store/base.raw" "truncate -s $((SIZE / 2)) store/base.raw"; do
        exec 3<$LAYER
        eval "$change"
        is_open_as store/base.raw || fail "open, after: $change"
        assert_eq "$(stat -c %s $LAYER)" "$(stat -c %s store/base.raw)" "size after: $change"
        assert_passed $LAYER store/base.raw
        exec 3<&-
    done

    # It ends within a sector, which then is filled up with zeros: for who opens it then.
    exec 3<$LAYER
    head -c 1 <&3 >/dev/null
    echo hello >>store/base.raw
    cp store/base.raw odd.was
    truncate -s %512 odd.was
    assert_same $LAYER odd.was "a raw disk that grew by part of a sector"
    assert_eq "$(stat -c %s $LAYER)" "$(stat -c %s odd.was)" "its size"
    exec 3<&-
    truncate -s %512 store/base.raw
    assert_same $LAYER odd.was "a raw disk of whole sectors again"
}

# More opens than the keeper would let be at once, one after the other and many together.
check_numbers() {
    python3 - $LAYER <<'END' || fail "many opens"
import os, sys
for i in range(5000):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
first = os.open(sys.argv[1], os.O_RDONLY)
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
    start_daemon "$@"
}

make_store
begin
check_ways_of_reading
check_what_is_not_passed
check_changes
check_sizes
check_numbers
check_replacements
check_commotion
wait_for is_passed $LAYER store/base.raw
stop_daemon

begin -o sandbox=off
check_ways_of_reading
check_changes
stop_daemon

begin -o ro
check_ways_of_reading
stop_daemon

begin -o backing=any # its files may lie anywhere
assert_not_passed $LAYER base.was
stop_daemon
