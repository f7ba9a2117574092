# What the tests of the control files share. They source it first.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

# Where most of the commands go.
# shellcheck disable=SC2034
C=mnt/web.qcow2/control

# A disk whose first byte tells which one it is.
new_image() { # PATH OPTIONS...
    local path=$1
    shift
    qemu-img create -q -f qcow2 "$@" "$path" 1M
    set_byte "$path" 1
}

set_byte() {
    qemu-io -c "write -q -P $2 0 300K" "$1"
}

assert_byte() { # FILE BYTE
    assert_eq "$(od -An -tu1 -N1 "$1" | tr -d ' ')" "$2" "first byte of $1"
}

assert_snapshots() { # IMAGE NAME...
    local image=$1
    shift
    assert_eq "$(ls "mnt/$image/snapshots")" "$(printf '%s\n' "$@" | sort)" "snapshots of $image"
    assert_eq "$(qemu-img info --output=json "store/$image" | grep -c '"vm-clock-nsec"' || true)" "$(printf '%s\n' "$@" | grep -c .)" \
        "number of snapshots QEMU sees in $image"
    check_clean "store/$image"
}

# A command fails with an errno and the file is, to the byte, what it was.
fails_unchanged() { # ERRNO IMAGE LINE
    local before
    before=$(sha256sum <"store/$2")
    control_fails "$1" "mnt/$2/control" "$3"
    assert_eq "$(sha256sum <"store/$2")" "$before" "the file after '$3' failed"
}
