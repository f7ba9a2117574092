# Images made by others, from public test suites. They are no part of the project: where the
# folder is not there, this test has nothing to do, in CI as well.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
CORPUS=$SRCDIR/../shared/corpus
if [ ! -d "$CORPUS" ]; then
    echo "SKIP: no corpus beside the source tree"
    exit 77
fi
requires qemu-img python3
requires_fuse

# A copy under a flat name, keeping the ending; prints the name.
import_file() {
    local name=${1#"$CORPUS"/}
    name=${name//\//_}
    cp "$1" "store/$name"
    echo "$name"
}

# The image is shown, with a reason and no disk, and its control file works as far as it can.
assert_refused() { # NAME REGEX
    [ -d "mnt/$1" ] || fail "$1 is not shown"
    [ ! -e "mnt/$1/disk" ] || fail "$1 has a disk"
    assert_match "$(cat "mnt/$1/error")" "$2" "error of $1"
    assert_eq "$(wc -l <"mnt/$1/error")" 1 "lines in the error of $1"
}

# What QEMU reads, we read; and our commands leave it without a fault.
assert_readable() { # NAME
    cmp "mnt/$1/disk" "$(qemu_raw "store/$1")" || fail "disk of $1"
    qemu-img check "store/$1" >before.txt 2>&1 || return 0 # leaks to begin with
    cp "mnt/$1/disk" disk.raw
    control_ok "mnt/$1/control" "take one" "rename one two"
    check_clean "store/$1"
    cmp "mnt/$1/snapshots/two" disk.raw || fail "snapshot of $1"
    control_ok "mnt/$1/control" "revert two" "delete two"
    check_clean "store/$1"
    cmp "mnt/$1/disk" disk.raw || fail "disk of $1 after commands"
}

# A qcow2 whose chain is not whole: an error, EIO where the missing layer is, no crash.
assert_incomplete() { # NAME
    [ -s "mnt/$1/error" ] || fail "$1 has no error"
    assert_eq "$(wc -l <"mnt/$1/error")" 1 "lines in the error of $1"
    cat "mnt/$1/info.json" >/dev/null
}

# Clean, or with leaks at most.
not_corrupt() {
    local status=0
    qemu-img check "$1" >/dev/null 2>&1 || status=$?
    [ $status = 0 ] || [ $status = 3 ]
}

look_at() { # PATH
    local name format
    name=$(import_file "$1")
    format=$(qemu-img info --output=json "store/$name" 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["format"])' 2>/dev/null || echo none)
    case $format in
        qcow2)
            # QEMU reads zeros where a truncated file ends; that is an error, not a disk.
            if qemu-img convert -O raw "store/$name" probe.raw 2>/dev/null && not_corrupt "store/$name"; then
                assert_readable "$name"
            else
                assert_incomplete "$name"
            fi
            ;;
        qcow | vpc) assert_refused "$name" "$format" ;;
        vmdk) [ ! -d "mnt/$name" ] || assert_refused "$name" vmdk ;;
        none)
            if head -c 3 "$1" | grep -q QFI; then
                assert_refused "$name" .
            fi
            ;;
    esac
    SEEN+=("$format")
    rm "store/$name"
}

SEEN=()
mkdir store
mount_store "$TMP/store" mnt
while IFS= read -r path; do
    look_at "$path"
done < <(find "$CORPUS" -type f ! -name '*.md' ! -name '*.tsv' | sort)
ls -lR mnt >/dev/null
echo "formats seen: ${SEEN[*]}"
[[ " ${SEEN[*]} " == *" qcow2 "* ]] || fail "the corpus has no qcow2 image"
unmount_store mnt
