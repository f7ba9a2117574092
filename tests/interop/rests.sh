# The guide has a command that finds the images on top of another one, which a revert of that one
# would ruin. It has to list every one of them, also those that snaptree itself cannot read.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img jq
requires_fuse

# The command as the guide has it, for a tree that is mounted on mnt.
command_of_guide() {
    sed -n '/^ *\$ find .* -name info.json/,/{} +$/s/^ *\$\? //p' "$SRCDIR/docs/GUIDE.md" | sed "s|/mnt/images|$TMP/mnt|"
}

overlay() { # NAME BACKING ARGUMENTS...
    (cd store && qemu-img create -q -f qcow2 "${@:3}" -u -b "$2" -F qcow2 "$1" 1M)
}

assert_listed() { # NAME...
    bash -c "$(command_of_guide)" | sed "s|^$TMP/store/||" | sort >listed
    assert_eq "$(<listed)" "$(printf '%s\n' "$@")" "images on top of base.qcow2"
}

mkdir -p store/team
qemu-img create -q -f qcow2 store/base.qcow2 1M
qemu-img create -q -f qcow2 store/other.qcow2 1M
overlay direct.qcow2 base.qcow2
overlay indirect.qcow2 direct.qcow2
overlay team/below.qcow2 ../base.qcow2
overlay absolute.qcow2 "$TMP/store/base.qcow2"
overlay elsewhere.qcow2 other.qcow2
overlay encrypted.qcow2 base.qcow2 -o encrypt.format=aes,encrypt.key-secret=s --object secret,id=s,data=x
overlay data.qcow2 base.qcow2 -o data_file=data.bin
overlay protocol.qcow2 'json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}'

mount_store "$TMP/store" "$TMP/mnt"
[ -e mnt/encrypted.qcow2/error ] && [ -e mnt/data.qcow2/error ] || fail "they can be read"
assert_listed absolute.qcow2 data.qcow2 direct.qcow2 encrypted.qcow2 indirect.qcow2 protocol.qcow2 team/below.qcow2
unmount_store "$TMP/mnt"

# Where no image may have a backing file, it still says which one it names.
mount_store "$TMP/store" "$TMP/mnt" -o backing=deny
assert_listed absolute.qcow2 data.qcow2 direct.qcow2 encrypted.qcow2 protocol.qcow2 team/below.qcow2
unmount_store "$TMP/mnt"
