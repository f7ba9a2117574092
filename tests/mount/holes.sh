# Holes are holes, exact to the cluster, for everything that can skip them.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 tar
requires_fuse

# Where lseek(2) finds data: lines of START END.
data_of() {
    python3 - "$1" <<'END'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size, at = os.fstat(fd).st_size, 0
while True:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        assert error.errno == errno.ENXIO, error
        break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    assert start < at <= size, (start, at, size)
    print(start, at)
for whence in os.SEEK_DATA, os.SEEK_HOLE:
    try:
        os.lseek(fd, size, whence)
        sys.exit("seeking at the end must be ENXIO")
    except OSError as error:
        assert error.errno == errno.ENXIO, error
END
}

assert_data() { # FILE RANGES
    local data
    data=$(data_of "$1") || fail "seeking in $1"
    assert_eq "$data" "$2" "data of $1"
}

make_store() {
    mkdir store
    qemu-img create -q -f qcow2 store/sparse.qcow2 8388608
    qemu-io -c 'write -q -P 1 65536 1' -c 'write -q -P 2 1M 128K' -c 'write -q -P 3 8388600 8' \
        -c 'write -q -z 1M 64K' -c 'write -q -P 4 3M 64K' -c 'write -q -z -u 3M 64K' \
        -c 'write -q -c -P 5 4M 64K' store/sparse.qcow2
    qemu-img snapshot -c s store/sparse.qcow2
    qemu-io -c 'discard -q 4M 64K' -c 'write -q -P 1 6M 1' store/sparse.qcow2
    (cd store && qemu-img create -q -f qcow2 -b sparse.qcow2 -F qcow2 -o cluster_size=4K over.qcow2 9M)
    qemu-io -c 'write -q -z 64K 4K' -c 'write -q -P 9 2M 1' store/over.qcow2
    qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64K store/extl2.qcow2 1M
    qemu-io -c 'write -q -P 1 128K 2K' store/extl2.qcow2
    qemu-img create -q -f qcow2 store/empty.qcow2 100G
    truncate -s 3M store/disk.raw
    printf x | dd of=store/disk.raw bs=1 seek=1048576 conv=notrunc status=none
}

seek_is_exact() {
    assert_data mnt/sparse.qcow2/snapshots/s "65536 131072
1114112 1179648
4194304 4259840
8323072 8388608"
    assert_data mnt/sparse.qcow2/disk "65536 131072
1114112 1179648
6291456 6356992
8323072 8388608"
    assert_data mnt/over.qcow2/disk "69632 131072
1114112 1179648
2097152 2101248
6291456 6356992
8323072 8388608"
    assert_data mnt/over.qcow2/layers/1-sparse.qcow2 "$(data_of mnt/sparse.qcow2/disk)"
    assert_data mnt/extl2.qcow2/disk "131072 133120"
    assert_data mnt/empty.qcow2/disk ""
    assert_data mnt/disk.raw/disk "$(data_of store/disk.raw)"
}

# A text is all data.
seek_in_text() {
    assert_data mnt/sparse.qcow2/info.json "0 $(stat -c %s mnt/sparse.qcow2/info.json)"
}

# A copy takes no more room than the data, and holds the same.
assert_copy() { # COPY ORIGINAL KIB
    cmp "$1" "$2" || fail "$1 differs"
    local used
    used=$(du -k "$1" | cut -f1)
    [ "$used" -le "$3" ] || fail "$1 occupies $used KiB, not $3"
}

tools_skip_holes() {
    cp --sparse=auto mnt/sparse.qcow2/disk copy
    assert_copy copy mnt/sparse.qcow2/disk 512
    tar -S -cf copy.tar -C mnt/sparse.qcow2/snapshots s
    [ "$(stat -c %s copy.tar)" -le 400000 ] || fail "tar -S stored the holes"
    tar -S -xf copy.tar
    assert_copy s mnt/sparse.qcow2/snapshots/s 512
    qemu-img convert -O qcow2 -S 0 mnt/over.qcow2/disk copy.qcow2
    qemu-img compare -q mnt/over.qcow2/disk copy.qcow2 || fail "qemu-img convert"
    # 100 GiB of nothing: done at once, as no byte of it is read.
    cp --sparse=always mnt/empty.qcow2/disk nothing
    assert_eq "$(stat -c %s nothing)" 107374182400 "size of the copy of an empty disk"
    [ "$(du -k nothing | cut -f1)" -le 64 ] || fail "the copy of an empty disk occupies room"
    rm nothing
}

# The blocks that stat tells are those of the data.
blocks_are_data() {
    [ "$(stat -c %b mnt/empty.qcow2/disk)" -le 1024 ] || fail "an empty disk of 100 GiB occupies $(du -h mnt/empty.qcow2/disk)"
    local blocks
    blocks=$(stat -c %b mnt/sparse.qcow2/disk)
    [ "$blocks" -gt 0 ] && [ "$blocks" -le $((8388608 / 512)) ] || fail "$blocks blocks"
}

make_store
mount_store store mnt
seek_is_exact
seek_in_text
tools_skip_holes
blocks_are_data
unmount_store mnt
