# info.json says what `qemu-img info --output=json` says: every key, the same value.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 jq

make_images() {
    cd store
    mkdir sub
    qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 3M
    qemu-img create -q -f qcow2 v3.qcow2 5G
    scribble v3.qcow2 v3 1000 200000
    truncate -s 1234567 disk.raw
    printf x | dd of=disk.raw bs=1 seek=70000 conv=notrunc status=none
    cp disk.raw disk.img
    qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=1 tiny.qcow2 1M
    qemu-img create -q -f qcow2 -o lazy_refcounts=on lazy.qcow2 1M
    qemu-img create -q -f qcow2 -o compression_type=zstd,refcount_bits=64 zstd.qcow2 1M
    qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=2M extl2.qcow2 100M
    qemu-img create -q -f qcow2 -b v3.qcow2 -F qcow2 over.qcow2
    qemu-img create -q -f qcow2 -b disk.raw -F raw over-raw.qcow2
    (cd sub && qemu-img create -q -f qcow2 -b ../over.qcow2 -F qcow2 deep.qcow2)
    qemu-img create -q -f qcow2 -b "$TMP/store/v3.qcow2" -F qcow2 absolute.qcow2
    qemu-img create -q -f qcow2 -o data_file=data.bin data-file.qcow2 1M
    qemu-img create -q -f qcow2 -o data_file=data2.bin,data_file_raw=on data-raw.qcow2 1M
    qemu-img create -q -f qcow2 bitmaps.qcow2 10M
    qemu-img bitmap --add bitmaps.qcow2 one
    qemu-img bitmap --add -g 32K --disable bitmaps.qcow2 'two "quoted"'
    qemu-img create -q -f qcow2 snapshots.qcow2 1M
    qemu-img snapshot -c first snapshots.qcow2
    scribble snapshots.qcow2 s 0 100000
    qemu-img snapshot -c 'second "quoted"' snapshots.qcow2
    qemu-img snapshot -c 'café' snapshots.qcow2
    cp snapshots.qcow2 corrupt.qcow2
    patch_bytes corrupt.qcow2 79 02
    cp v3.qcow2 dirty.qcow2
    patch_bytes dirty.qcow2 79 01
    patch_bytes dirty.qcow2 87 01
    qemu-img create -q -f qcow2 -b v3.qcow2 -F qcow2 cut.qcow2 5G
    truncate -s 100000 cut.qcow2 # its L1 table lies behind that
    # QEMU measures the processor first, and gives up when others keep it busy.
    local i
    for i in 1 2 3 4 5 6 7 8 9 10; do
        qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=20 luks.qcow2 1M 2>luks.err && break
    done
    [ -e luks.qcow2 ] && qemu-img info luks.qcow2 >/dev/null || fail "no LUKS image: $(cat luks.err)"
    rm -f luks.err
    qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 1M
    local method
    for method in luks aes; do
        cp $method.qcow2 cut-$method.qcow2
        patch_bytes cut-$method.qcow2 40 0000010000000000 # and that of an encrypted image
    done
    : >empty.raw
    cd ..
}

# Each key of QEMU's, deep inside too, must be in ours; ours may have "snaptree" besides.
compare() { # IMAGE
    local image=$1
    (cd "$(dirname "store/$image")" && qemu-img info --output=json "$(basename "$image")") >theirs.json
    jq -e . "mnt/$image/info.json" >ours.json || fail "info.json of $image is not JSON"
    jq -e '.snaptree | type == "object"' ours.json >/dev/null || fail "$image: no snaptree object"
    python3 "$SRCDIR/tests/interop/compare_info.py" theirs.json ours.json "$image"
}

requires_fuse
mkdir store
make_images
mount_store "$TMP/store" mnt
for image in v2.qcow2 v3.qcow2 disk.raw disk.img empty.raw tiny.qcow2 lazy.qcow2 zstd.qcow2 extl2.qcow2 \
    over.qcow2 over-raw.qcow2 sub/deep.qcow2 absolute.qcow2 data-file.qcow2 data-raw.qcow2 \
    bitmaps.qcow2 snapshots.qcow2 corrupt.qcow2 dirty.qcow2 luks.qcow2 aes.qcow2; do
    compare "$image"
done
control_ok mnt/snapshots.qcow2/control "take ours" "delete first" "rename ours yours"
compare snapshots.qcow2
# Of an image that cannot be opened, what its header says.
for image in cut.qcow2 cut-luks.qcow2 cut-aes.qcow2; do
    compare "$image"
done
[ -s mnt/cut.qcow2/error ] && [ ! -e mnt/cut.qcow2/disk ] || fail "an image without its L1 table"
assert_eq "$(ls mnt/cut.qcow2/layers)" "" "layers of what cannot be read"
unmount_store mnt
