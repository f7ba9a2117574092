# Images with a flaw that qemu-img check calls an error, or that QEMU does not open for: check finds
# it, and a command either mends it in passing, as qemu-img check agrees, or changes nothing.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

COMMANDS=("take two" "revert one" "delete one" "rename one eins" repair)

make_images() {
    qemu-img create -q -f qcow2 plain.qcow2 4M
    scribble plain.qcow2 plain 0 1048576
    qemu-img snapshot -c one plain.qcow2
    scribble plain.qcow2 more 0 65536
    qemu-img convert -c -O qcow2 plain.qcow2 compressed.qcow2
    qemu-img snapshot -c one compressed.qcow2
    scribble compressed.qcow2 more 0 65536
    qemu-img convert -c -O qcow2 -o extended_l2=on plain.qcow2 extended.qcow2
    qemu-img snapshot -c one extended.qcow2
    cp plain.qcow2 bitmap.qcow2
    qemu-img bitmap --add bitmap.qcow2 changes
    cp bitmap.qcow2 bitmaps.qcow2
    qemu-img bitmap --add bitmaps.qcow2 dhanges # one letter from the other
    qemu-img create -q -f qcow2 -o cluster_size=2M large.qcow2 4M
    qemu-img snapshot -c one large.qcow2
    qemu-img bitmap --add large.qcow2 changes
    check_clean large.qcow2 bitmaps.qcow2 plain.qcow2 compressed.qcow2 extended.qcow2 bitmap.qcow2
}

# QEMU finds the flaw, and so do we.
assert_found() { # FLAW
    local status=0
    qemu-img check "store/$1.qcow2" >check.txt 2>&1 || status=$?
    [ $status = 1 ] || [ $status = 2 ] || fail "$1: qemu-img check says $status: $(cat check.txt)"
    control_fails EUCLEAN "mnt/$1.qcow2/control" check
}

mended() { # FLAW IMAGE
    local command
    for command in "${COMMANDS[@]}"; do
        python3 "$SRCDIR/tests/interop/flaws.py" "$1" "$2.qcow2" "store/$1.qcow2"
        assert_found "$1"
        control_ok "mnt/$1.qcow2/control" "$command"
        check_clean "store/$1.qcow2"
    done
}

left_alone() { # FLAW IMAGE
    local command before
    python3 "$SRCDIR/tests/interop/flaws.py" "$1" "$2.qcow2" "store/$1.qcow2"
    assert_found "$1"
    before=$(sha256sum <"store/$1.qcow2")
    for command in "${COMMANDS[@]}"; do
        control_fails EUCLEAN "mnt/$1.qcow2/control" "$command"
        assert_eq "$(sha256sum <"store/$1.qcow2")" "$before" "$1 after $command"
    done
    cat "mnt/$1.qcow2/disk" "mnt/$1.qcow2/snapshots/one" >/dev/null || fail "$1 cannot be read"
}

# One that neither QEMU nor we can make anything of.
not_opened() { # FLAW IMAGE
    local status=0
    python3 "$SRCDIR/tests/interop/flaws.py" "$1" "$2.qcow2" "store/$1.qcow2"
    qemu-img check "store/$1.qcow2" >check.txt 2>&1 || status=$?
    assert_eq "$status" 1 "$1: qemu-img check"
    [ -s "mnt/$1.qcow2/error" ] && [ ! -e "mnt/$1.qcow2/disk" ] || fail "$1: it is opened"
    control_fails EUCLEAN "mnt/$1.qcow2/control" check
}

# A disk that ends within a sector: QEMU and we have it without that, and both apply our snapshot.
odd_size() {
    python3 "$SRCDIR/tests/interop/flaws.py" odd-size plain.qcow2 store/odd.qcow2
    cmp mnt/odd.qcow2/disk "$(qemu_raw store/odd.qcow2)" || fail "disk that ends within a sector"
    assert_eq "$(python3 -c 'import json; print(json.load(open("mnt/odd.qcow2/info.json"))["virtual-size"])')" \
        "$(stat -c %s mnt/odd.qcow2/disk)" "virtual size"
    control_ok mnt/odd.qcow2/control "take two"
    check_clean store/odd.qcow2
    qemu-img snapshot -a two store/odd.qcow2
    control_ok mnt/odd.qcow2/control "revert two"
    check_clean store/odd.qcow2
}

make_images
mkdir store
mount_store "$TMP/store" mnt
mended copied-l2 plain
mended copied-l1 plain
mended incomplete-0 plain
mended incomplete-8 plain
mended raw-without-data-file plain
left_alone copied-compressed compressed
left_alone compressed-subclusters extended
for flaw in reserved no-table flags longer-table extra-data longer-directory; do
    left_alone "bitmap-$flaw" bitmap
done
left_alone bitmap-same-name bitmaps
left_alone bitmap-huge-table large # 257 clusters of 2 MiB
not_opened end-has-length plain
odd_size
