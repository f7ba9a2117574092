# Disks get resized, so each snapshot has a size of its own. qemu-img convert -l ignores it and
# cuts or pads to the present size: here the judge is the disk as it was at that moment.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3

virtual_size() {
    qemu-img info --output=json "$1" | python3 -c 'import json, sys
print(json.load(sys.stdin)["virtual-size"])'
}

# A snapshot taken at a size: image, name, size; the disk of that moment is kept in NAME.raw.
at_size() {
    local image=$1 name=$2 size=$3
    qemu-img resize -q --shrink "$image" "$size"
    scribble "$image" "$name" $((size - 70000)) 70000
    qemu-img convert -O raw "$image" "$name.raw"
    assert_eq "$(stat -c %s "$name.raw")" "$size" "size of the disk at $name"
}

# The image has snapshots small, large, odd; each must still be what it was.
assert_snapshots() {
    local image=$1 name
    for name in small large odd; do
        "$QCTOOL" cat "$image" "snapshot=$name" >got
        assert_same got "$name.raw" "snapshot $name of $image"
    done
    check_clean "$image"
}

# Our revert brings size and content back, and QEMU sees the same.
revert_and_compare() {
    local image=$1 name=$2
    "$QCTOOL" revert "$image" "$name"
    check_clean "$image"
    assert_eq "$(virtual_size "$image")" "$(stat -c %s "$name.raw")" "virtual size after revert"
    assert_same "$(qemu_raw "$image")" "$name.raw" "QEMU's disk after revert to $name"
    "$QCTOOL" cat "$image" >got
    assert_same got "$name.raw" "our disk after revert to $name"
}

try_options() {
    local image=$1 taker=$2
    shift 2
    qemu-img create -q -f qcow2 "$@" "$image" 1M
    local size name
    for size in small:1048576 large:5242880 odd:3145216; do
        name=${size%%:*}
        at_size "$image" "$name" "${size#*:}"
        if [ "$taker" = qemu ]; then
            qemu-img snapshot -c "$name" "$image"
        else
            "$QCTOOL" take "$image" "$name"
        fi
        check_clean "$image"
    done
    at_size "$image" now 2097152
    assert_snapshots "$image"
    for name in large small odd large; do
        revert_and_compare "$image" "$name"
        assert_snapshots "$image"
    done
    # The disk that was shrunk by the revert is a disk to QEMU like any other.
    "$QCTOOL" revert "$image" small
    scribble "$image" after 900000 100000
    qemu-img snapshot -a odd "$image"
    assert_same "$(qemu_raw "$image")" odd.raw "QEMU's revert to odd"
    assert_snapshots "$image"
    "$QCTOOL" delete "$image" large
    check_clean "$image"
}

for taker in qemu us; do
    try_options "default-$taker.qcow2" "$taker"
    try_options "small-$taker.qcow2" "$taker" -o cluster_size=512
    try_options "large-$taker.qcow2" "$taker" -o cluster_size=2M
    try_options "extl2-$taker.qcow2" "$taker" -o extended_l2=on,cluster_size=16K
done
# With a backing file that is longer than some of the sizes and shorter than others.
qemu-img create -q -f qcow2 base.qcow2 2M
scribble base.qcow2 base 0 2097152
for taker in qemu us; do
    try_options "backed-$taker.qcow2" "$taker" -b base.qcow2 -F qcow2
done
