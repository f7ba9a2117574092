# Backing files: how they may be named, how long they may be, and what may not be one.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3

# An image of the size with noise in its first half: path, size, options of create.
make() {
    local path=$1 size=$2
    shift 2
    (cd "$(dirname "$path")" && qemu-img create -q -f qcow2 "$@" "./$(basename "$path")" "$size")
    scribble "./$path" "$path" 0 $((size / 2))
}

same_as_qemu() {
    "$QCTOOL" cat "$1" >got
    assert_same got "$(qemu_raw "$1")" "$1"
}

# Reading comes to nothing, and the message says why.
refused() { # IMAGE REGEX
    assert_errno EIO "$QCTOOL" cat "$1"
    assert_match "$OUTPUT" "$2" "why $1 is refused"
}

# Set the header's backing file to any text, without QEMU asking whether it is there.
name_backing() { # IMAGE NAME [FORMAT]
    qemu-img rebase -q -u -f qcow2 -b "$2" -F "${3:-qcow2}" "$1" || fail "rebase of $1 to $2"
}

# Old images do not state the format: turn the type of that header extension into an unknown one.
forget_format() {
    python3 - "$1" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    head = f.read(4096)
    at = head.index(bytes.fromhex("e2792aca"))
    f.seek(at)
    f.write(bytes.fromhex("12345678"))
END
}

names_and_lengths() {
    mkdir sub
    make base.qcow2 1048576
    make sub/relative.qcow2 1048576 -b ../base.qcow2 -F qcow2
    make sub/absolute.qcow2 1048576 -b "$TMP/base.qcow2" -F qcow2
    make protocol.qcow2 1048576 -b file:base.qcow2 -F qcow2
    make longer.qcow2 3000320 -b base.qcow2 -F qcow2
    make shorter.qcow2 400384 -b base.qcow2 -F qcow2
    make longest.qcow2 4194304 -b shorter.qcow2 -F qcow2
    make "odd name: 100%.qcow2" 1048576 -b "./base.qcow2" -F qcow2
    local image
    for image in sub/relative.qcow2 sub/absolute.qcow2 protocol.qcow2 longer.qcow2 shorter.qcow2 \
        longest.qcow2; do
        STORE=$TMP "$QCTOOL" cat "$image" >got
        assert_same got "$(qemu_raw "$image")" "$image"
    done
    same_as_qemu "./odd name: 100%.qcow2"
    make "with:colon.qcow2" 1048576
    make over-colon.qcow2 1048576 -b "./with:colon.qcow2" -F qcow2
    same_as_qemu over-colon.qcow2
}

raw_backing() {
    noise raw 700001 >base.raw # QEMU pads a raw file to whole sectors
    qemu-img create -q -f qcow2 -b base.raw -F raw over-raw.qcow2 2M
    scribble over-raw.qcow2 over 100000 50000
    same_as_qemu over-raw.qcow2
    "$QCTOOL" cat over-raw.qcow2 layer=1 >got
    cmp -n 700001 got base.raw || fail "layer 1 is not the raw file"
    qemu-img create -q -f qcow2 -b base.raw -F raw old.qcow2 2M
    forget_format old.qcow2
    "$QCTOOL" cat old.qcow2 >got
    cmp -n 700001 got base.raw || fail "an unstated raw backing file is not read as raw"
}

# A raw disk into which the guest wrote a header, which names any file of the host.
guest_made_header() {
    printf 'secret of the host' >secret
    make trap.qcow2 1048576
    name_backing trap.qcow2 secret raw
    cp trap.qcow2 guest.raw
    qemu-img create -q -f qcow2 -b guest.raw -F raw stated.qcow2 1M
    "$QCTOOL" cat stated.qcow2 >got
    cmp -n 65536 got guest.raw || fail "what is stated as raw must be read as raw"
    cp stated.qcow2 unstated.qcow2
    forget_format unstated.qcow2
    refused unstated.qcow2 'unstated.qcow2.*format is not stated'
    # What it advises works as it stands.
    eval "$(grep -o 'qemu-img rebase .*' <<<"$OUTPUT")" || fail "the advice: $OUTPUT"
    "$QCTOOL" cat unstated.qcow2 | cmp - "$(qemu_raw unstated.qcow2)" || fail "the advice: $OUTPUT"
}

deep_chain() {
    make deep-0.qcow2 262144
    local i
    for ((i = 1; i < 120; i++)); do
        qemu-img create -q -f qcow2 -o cluster_size=4K -b deep-$((i - 1)).qcow2 -F qcow2 \
            deep-$i.qcow2 262144
        qemu-io -c "write -q -P $i $((i * 2000)) 3000" deep-$i.qcow2
    done
    same_as_qemu deep-119.qcow2
    assert_eq "$("$QCTOOL" map deep-119.qcow2 layer=119 | tail -n1)" \
        "$("$QCTOOL" map deep-0.qcow2 | tail -n1)" "the lowest layer"
    assert_errno ENOENT "$QCTOOL" map deep-119.qcow2 layer=120
    "$QCTOOL" take deep-119.qcow2 s
    check_clean deep-119.qcow2
    "$QCTOOL" cat deep-119.qcow2 snapshot=s >got2
    assert_same got got2 "snapshot of a deep chain"
}

# 600 layers: more than the engine follows. The data of the upper layers stays readable.
too_deep() {
    cp deep-0.qcow2 pile-0.qcow2
    python3 - <<'END'
import subprocess
subprocess.run("qemu-img create -q -f qcow2 -u -b pile-100.qcow2 -F qcow2 -o cluster_size=512 "
               "pile-101.qcow2 262144", shell=True, check=True)
image = open("pile-101.qcow2", "rb").read()
for i in range(100, 701):
    open("pile-%d.qcow2" % (i + 1), "wb").write(image.replace(b"pile-100", b"pile-%03d" % i))
open("pile-100.qcow2", "wb").write(open("pile-0.qcow2", "rb").read())
END
    same_as_qemu pile-150.qcow2
    refused pile-701.qcow2 '.'
}

loops() {
    make self.qcow2 1048576
    name_backing self.qcow2 self.qcow2
    refused self.qcow2 'self.qcow2'
    make a.qcow2 1048576
    make b.qcow2 1048576 -b a.qcow2 -F qcow2
    name_backing a.qcow2 b.qcow2
    refused a.qcow2 '.'
    ln -s a.qcow2 link.qcow2
    make c.qcow2 1048576
    name_backing c.qcow2 link.qcow2
    refused c.qcow2 '.'
}

outside_the_store() {
    mkdir -p store/deeper
    make outside.qcow2 1048576
    make store/up.qcow2 1048576 -b ../outside.qcow2 -F qcow2
    make store/absolute.qcow2 1048576 -b "$TMP/outside.qcow2" -F qcow2
    ln -s ../outside.qcow2 store/link.qcow2
    make store/linked.qcow2 1048576 -b link.qcow2 -F qcow2
    make store/inside.qcow2 1048576
    make store/deeper/ok.qcow2 1048576 -b ../inside.qcow2 -F qcow2
    export STORE=$TMP/store
    local image
    for image in up.qcow2 absolute.qcow2 linked.qcow2; do
        BACKING=store refused $image '(outside|link).qcow2'
        BACKING=deny refused $image '(outside|link).qcow2'
    done
    for image in up.qcow2 absolute.qcow2 deeper/ok.qcow2; do
        BACKING=any "$QCTOOL" cat $image >got
        assert_same got "$(qemu_raw "store/$image")" "$image with backing=any"
    done
    BACKING=store "$QCTOOL" cat deeper/ok.qcow2 >got
    assert_same got "$(qemu_raw store/deeper/ok.qcow2)" "a backing file inside the store"
    BACKING=deny refused deeper/ok.qcow2 'inside.qcow2'
    # What lies in the top layer itself is read all the same.
    "$QCTOOL" map up.qcow2 >map
    assert_eq "$(head -n1 map)" "0 524288 data"
    unset STORE
}

# Nothing but a regular file or a block device is ever a backing file.
not_files() {
    mkfifo fifo
    mkdir directory.qcow2
    local name
    for name in 'json:{"driver":"nbd","host":"localhost"}' 'json:{"file":{"driver":"file","filename":"base.qcow2"}}' \
        nbd://localhost/x nbd:localhost:10809 fat:/etc fat:rw:/etc https://localhost/x ssh://localhost/x \
        /dev/zero /dev/null fifo directory.qcow2 missing.qcow2 '' ' ' fd:0 host_device:/dev/zero; do
        make hostile.qcow2 1048576
        python3 "$SRCDIR/tests/interop/set_backing.py" hostile.qcow2 "$name" raw
        [ -z "$name" ] || BACKING=any refused hostile.qcow2 '.'
        [ -z "$name" ] || BACKING=store refused hostile.qcow2 '.'
        # No command needs what lies beneath, and all leave the name as it is.
        check_clean_alone hostile.qcow2
        "$QCTOOL" take hostile.qcow2 s
        check_clean_alone hostile.qcow2
        "$QCTOOL" delete hostile.qcow2 s
        check_clean_alone hostile.qcow2
        assert_eq "$(python3 "$SRCDIR/tests/interop/set_backing.py" hostile.qcow2)" "$name" \
            "name of the backing file after commands"
    done
}

# qemu-img check of an image whose backing file cannot be opened.
check_clean_alone() {
    qemu-img check --image-opts "driver=qcow2,backing=,file.filename=$1" 2>&1 | grep -q "No errors were found" \
        || fail "$1 is not clean"
}

names_and_lengths
raw_backing
guest_made_header
deep_chain
too_deep
loops
outside_the_store
not_files
