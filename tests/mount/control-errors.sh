# Each errno of the interface's table, and that a command which fails has changed nothing.
. "${SRCDIR:?run by ctest}/tests/mount/control.bash"

as_nobody() {
    setpriv --reuid=65534 --regid=65534 --groups=4242 "$@"
}

assert_denied() {
    assert_fails as_nobody bash -c "$1"
    assert_match "$OUTPUT" "$(message_of EACCES)" "$1"
}

einval() {
    local line
    for line in bogus "TAKE x" take "take a b" revert "revert a b" delete "delete a b" "rename a" rename \
        "rename a b c" "take 'x" 'take "x' 'take x\' "take ''" "rename nothing ''"; do
        control $C "$line"
        [ "$STATUS" != 0 ] || fail "'$line' was accepted"
        [ "$line" = "rename nothing ''" ] || assert_match "$OUTPUT" "$(message_of EINVAL)" "'$line'"
    done
    control_fails EINVAL $C "frobnicate x"
    control_fails EINVAL $C "take a%00b"
    control_fails EINVAL $C "take 'x"
    python3 - $C <<'END' || fail "a NUL byte"
import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for bad in b"take a\0b\n", b"\0", b"\xff\xfe\n":
    try:
        os.write(fd, bad)
        sys.exit("%r was accepted" % bad)
    except OSError as error:
        assert error.errno == errno.EINVAL, error
END
    assert_snapshots web.qcow2
}

# A write that is too long is refused whole, and said to be.
e2big() {
    python3 - $C <<'END' || fail "see above"
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
assert os.write(fd, b"take e\ndelete e\n") == 16
try:
    os.write(fd, b"take f\n" + b"#" * 70000)
    sys.exit("it was accepted")
except OSError as error:
    assert error.errno == errno.E2BIG, error
text = os.pread(fd, 4096, 0)
assert b" E2BIG (70007 bytes): " in text and text.count(b"\n") == 1, text
assert os.write(fd, b"#" * 60000 + b"\n") == 60001
END
    assert_match "$(last_result $C)" " E2BIG "
    assert_snapshots web.qcow2
}

names_that_are_there_or_not() {
    control_ok $C "take a" "take b"
    fails_unchanged EEXIST web.qcow2 "take a"
    fails_unchanged EEXIST web.qcow2 "rename a b"
    fails_unchanged ENOENT web.qcow2 "revert nothing"
    fails_unchanged ENOENT web.qcow2 "delete nothing"
    fails_unchanged ENOENT web.qcow2 "rename nothing c"
    fails_unchanged ENAMETOOLONG web.qcow2 "take $(printf '%0256d' 1)"
    fails_unchanged ENAMETOOLONG web.qcow2 "rename a $(printf '%0256d' 1)"
    control_ok $C "take $(printf '%0255d' 1)" "delete $(printf '%0255d' 1)" "delete a" "delete b"
    assert_snapshots web.qcow2
    # However long the command is, the line tells why it failed, and has no half of a character.
    local long
    long=$(printf '€%.0s' $(seq 300))
    control_fails ENOENT $C "rename $long y$long"
    assert_match "$(last_result $C)" " ENOENT rename €€.*[.][.][.]: this image has no snapshot of that name$"
    last_result $C | python3 -c 'import sys; sys.stdin.buffer.read().decode()' || fail "a character is split"
}

# However a link leads to no file.
links_to_nothing() {
    local name
    ln -s missing store/dangling.qcow2
    ln -s loop.qcow2 store/loop.qcow2
    ln -s web.qcow2/x store/beneath.qcow2
    for name in dangling loop beneath; do
        control_fails ENOENT mnt/control "take $name.qcow2 s"
        assert_match "$(last_result mnt/control)" "$(cat mnt/$name.qcow2/error)$" "result line"
        [ "$(id -u)" = 0 ] || continue # nobody else may write there
        control_fails ENOENT mnt/$name.qcow2/control "take s"
    done
    for name in dangling beneath; do
        assert_match "$(cat mnt/$name.qcow2/error)" "$name.qcow2 is a link that leads to no file$"
    done
    rm store/{dangling,loop,beneath}.qcow2
}

# What is asked of images that nobody has, or of directories, is not kept in the place of what was done
# to others.
made_up_images() {
    mkdir store/dirs store/dirs/{1..1100}
    control_ok mnt/control "take quiet.qcow2 kept"
    python3 - <<'END'
import errno

made_up = ["x" * 300 + str(i) for i in range(1100)]
for name in made_up + ["dirs/%d" % i for i in range(1, 1101)]:
    try:
        with open("mnt/control", "wb", buffering=0) as control:
            control.write(b"check %s\n" % name.encode())
        raise SystemExit(name + " is an image")
    except OSError as error:
        assert error.errno in (errno.ENAMETOOLONG, errno.ENOENT), error
END
    assert_match "$(last_result mnt/quiet.qcow2/control)" " ok take kept$" "the result, after 2,200 commands"
    rm -r store/dirs
    control_ok mnt/quiet.qcow2/control "delete kept"
    # ... nor what comes in one write with something that is asked of an image that there is.
    control mnt/control "check quiet.qcow2" "check later.qcow2"
    assert_match "$OUTPUT" "$(message_of ENOENT)" "an image that is not there"
    new_image store/later.qcow2
    ! grep ENOENT mnt/later.qcow2/control || fail "a result from before there was an image"
    rm store/later.qcow2
}

ebusy_by_readers() {
    control_ok $C "take a" "take b"
    exec 3<mnt/web.qcow2/snapshots/a
    fails_unchanged EBUSY web.qcow2 "delete a"
    assert_match "$(tail -n1 $C)" "EBUSY delete a: .* this snapshot .* in web.qcow2; close it first" "result line"
    control_ok $C "revert a" "delete b" # the disk, and another snapshot, are nobody's
    assert_byte /proc/self/fd/3 1
    exec 3<&-
    exec 3<mnt/web.qcow2/disk
    fails_unchanged EBUSY web.qcow2 "revert a"
    control_ok $C "take c" # changes nothing that the reader of the disk sees
    assert_byte /proc/self/fd/3 1
    exec 3<&-
    control_ok $C "revert a" "delete a" "delete c"
    assert_snapshots web.qcow2
}

# The result that the descriptor reads which wrote the command, in $OUTPUT.
control_and_read() { # FILE LINE
    local fd
    exec {fd}<>"$1"
    ! (echo "$2" >&"$fd") 2>/dev/null || fail "'$2' > $1 did not fail"
    OUTPUT=$(cat <&"$fd")
    exec {fd}>&-
}

# What is read is the disk of the image, but what is open is an overlay. Its name is for the user who
# has asked, not for all who may read the image.
# The disks of five overlays are open, whose names begin so, while the command fails.
fails_by_overlays() { # PREFIX LINE
    local i fd fds=()
    for i in 1 2 3 4 5; do
        qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 "store/$1$i.qcow2"
        exec {fd}<"mnt/$1$i.qcow2/disk"
        fds+=("$fd")
    done
    control_fails EBUSY $C "$2"
    for fd in "${fds[@]}"; do
        exec {fd}<&-
    done
    rm store/"$1"?.qcow2
}

only_some_readers_are_named() {
    fails_by_overlays over "revert a"
    assert_match "$(tail -n1 $C)" " in over1.qcow2, over2.qcow2, over3.qcow2, over4.qcow2; close it first" "of five readers"
}

# Of a line that is too long it is the end that is left out, where the command is short.
long_reasons() {
    local long
    long=$(head -c 240 /dev/zero | tr '\0' x)
    fails_by_overlays "$long" "revert a"
    assert_match "$(tail -n1 $C)" "EBUSY revert a: somebody .* in ${long}1.qcow2, ${long}2.qcow2, " "a long reason"
    assert_eq "$(tail -n1 $C | wc -c)" 1025 "its length"
}

ebusy_by_readers_of_overlays() {
    control_ok $C "take a"
    qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 store/over.qcow2
    exec 3<mnt/over.qcow2/disk
    fails_unchanged EBUSY web.qcow2 "revert a"
    assert_match "$(tail -n1 $C)" "EBUSY revert a: .* this disk .* in over.qcow2; close it first" "result line"
    control_and_read $C "revert a"
    assert_match "$OUTPUT" "EBUSY revert a: .* this disk .* in over.qcow2; close it first" "result"
    control_fails EBUSY mnt/control "revert web.qcow2 a"
    assert_match "$(tail -n1 mnt/control)" "EBUSY revert web.qcow2 a: .* this disk .* in over.qcow2; close it first" "the store's result line"
    exec 4<mnt/web.qcow2/disk
    fails_unchanged EBUSY web.qcow2 "revert a"
    assert_match "$(tail -n1 $C)" "EBUSY revert a: .* in over.qcow2, web.qcow2; close it first" "result line"
    control_and_read $C "revert a"
    assert_match "$OUTPUT" "EBUSY revert a: .* in over.qcow2, web.qcow2; close it first" "result"
    exec 3<&- 4<&-
    local shown # all of them rest on the disk
    qemu-img snapshot -c s store/over.qcow2
    for shown in snapshots/s layers/1-web.qcow2; do
        exec 3<mnt/over.qcow2/$shown
        fails_unchanged EBUSY web.qcow2 "revert a"
        exec 3<&-
    done
    rm store/over.qcow2
    only_some_readers_are_named
    long_reasons
    control_ok $C "revert a" "delete a"
    assert_snapshots web.qcow2
}

erofs() {
    mount_store "$TMP/store" ro -o ro
    assert_fails bash -c "echo 'take s' >ro/web.qcow2/control"
    assert_match "$OUTPUT" "$(message_of EROFS)" "mounted read-only"
    assert_fails bash -c "echo 'take web.qcow2 s' >ro/control"
    assert_match "$OUTPUT" "$(message_of EROFS)" "mounted read-only"
    cmp ro/web.qcow2/disk mnt/web.qcow2/disk || fail "disk of a read-only mount"
    assert_eq "$(cat ro/control ro/web.qcow2/control | sort -u)" "# mounted read-only: no commands"
    unmount_store ro
    [ "$(id -u)" = 0 ] || return 0
    mkdir bound
    mount --bind store bound
    mount -o remount,bind,ro bound
    mount_store "$TMP/bound" ro
    assert_fails bash -c "echo 'take s' >ro/web.qcow2/control"
    assert_match "$OUTPUT" "$(message_of EROFS)" "the store's file system is read-only"
    unmount_store ro
    umount bound
    assert_snapshots web.qcow2
}

# A file system with no room left: nothing changes, and once there is room all works.
enospc() {
    [ "$(id -u)" = 0 ] || return 0
    mkdir small
    mount -t tmpfs -o size=8M tmpfs small
    new_image small/web.qcow2 -o cluster_size=4K
    new_image small/whole.qcow2
    qemu-io -c "write -q -P 1 0 1M" small/web.qcow2
    mount_store "$TMP/small" smallmnt
    control_ok smallmnt/web.qcow2/control "take a"
    local before line
    dd if=/dev/zero of=small/filler bs=64K status=none 2>/dev/null || true
    dd if=/dev/zero of=small/filler2 bs=4K status=none 2>/dev/null || true
    before=$(stat -c %s small/web.qcow2)
    for line in "take b" "take $(printf '%0200d' 2)"; do
        control_fails ENOSPC smallmnt/web.qcow2/control "$line"
        assert_eq "$(stat -c %s small/web.qcow2)" "$before" "length of the file after ENOSPC"
        check_clean small/web.qcow2
        assert_eq "$(ls smallmnt/web.qcow2/snapshots)" a "snapshots after ENOSPC"
    done
    cmp smallmnt/web.qcow2/disk smallmnt/web.qcow2/snapshots/a || fail "disk after ENOSPC"
    control_ok smallmnt/whole.qcow2/control check repair # nothing to mend, no room needed
    rm small/filler small/filler2
    control_ok smallmnt/web.qcow2/control "take b" "revert a" "delete a"
    check_clean small/web.qcow2
    unmount_store smallmnt
    umount small
}

# 2-bit refcounts count to 3: the disk and two snapshots.
efbig() {
    new_image store/narrow.qcow2 -o refcount_bits=2
    control_ok mnt/narrow.qcow2/control "take a" "take b"
    fails_unchanged EFBIG narrow.qcow2 "take c"
    check_clean store/narrow.qcow2
    control_ok mnt/narrow.qcow2/control "delete a" "take c"
    check_clean store/narrow.qcow2
}

euclean() {
    new_image store/corrupt.qcow2
    control_ok mnt/corrupt.qcow2/control "take s"
    cp store/corrupt.qcow2 store/dirty.qcow2
    cp store/corrupt.qcow2 store/badl2.qcow2
    patch_bytes store/corrupt.qcow2 79 02
    control_ok mnt/corrupt.qcow2/control check
    assert_match "$(last_result mnt/corrupt.qcow2/control)" "no errors.*marked corrupt"
    patch_bytes store/dirty.qcow2 79 01
    # The first entry of the L1 table points to where no L2 table can be.
    patch_bytes store/badl2.qcow2 "$(python3 -c 'import struct, sys
f = open(sys.argv[1], "rb"); f.seek(40); print(struct.unpack(">Q", f.read(8))[0])' store/badl2.qcow2)" 8000000000000200
    local image line
    for image in corrupt.qcow2 badl2.qcow2; do
        for line in "take t" "revert s" "delete s"; do
            fails_unchanged EUCLEAN $image "$line"
            assert_match "$(last_result mnt/$image/control)" "; repair mends"
        done
    done
    control_fails EUCLEAN mnt/badl2.qcow2/control repair # what it cannot
    assert_match "$(last_result mnt/badl2.qcow2/control)" "; qemu-img check -r all .* copy"
    cmp mnt/corrupt.qcow2/snapshots/s mnt/dirty.qcow2/snapshots/s || fail "snapshots stay readable"
    # Of a bad header qemu-img check says as little as we do.
    head -c 50 store/dirty.qcow2 >store/cut.qcow2
    control_fails EUCLEAN mnt/cut.qcow2/control repair
    assert_match "$(last_result mnt/cut.qcow2/control)" "repair: cut.qcow2: the header is cut off$"
    rm store/cut.qcow2
    # Not closed cleanly is not corrupt: the command puts it in order.
    control_ok mnt/dirty.qcow2/control "take t"
    check_clean store/dirty.qcow2
}

eopnotsupp() {
    truncate -s 1M store/disk.raw
    new_image store/refcount1.qcow2 -o refcount_bits=1
    (cd store && qemu-img create -q -f qcow2 -o data_file=data.bin data-file.qcow2 1M)
    qemu-img create -q -f qcow2 --object secret,id=s,data=x \
        -o encrypt.format=aes,encrypt.key-secret=s store/aes.qcow2 1M
    qemu-img create -q -f vmdk store/other.vmdk 1M
    local image
    for image in disk.raw refcount1.qcow2 data-file.qcow2 aes.qcow2 other.vmdk; do
        fails_unchanged EOPNOTSUPP $image "take s"
    done
    assert_match "$(last_result mnt/refcount1.qcow2/control)" "this image has refcounts of 1 bit" "the reason"
    new_image store/bitmaps.qcow2
    control_ok mnt/bitmaps.qcow2/control "take s"
    qemu-img bitmap --add store/bitmaps.qcow2 b
    fails_unchanged EOPNOTSUPP bitmaps.qcow2 "revert s"
    assert_match "$(tail -n1 mnt/bitmaps.qcow2/control)" "qemu-img bitmap --remove IMAGE BITMAP" "the reason"
    control_ok mnt/bitmaps.qcow2/control "take t" "delete s" "rename t s"
    check_clean store/bitmaps.qcow2
    assert_eq "$(qemu-img info --output=json store/bitmaps.qcow2 | grep -c '"granularity"')" 1 "bitmaps left"
    fails_unchanged EOPNOTSUPP bitmaps.qcow2 "revert s"
}

# Who may write the image file may command it, through groups as well; nobody else.
eacces() {
    [ "$(id -u)" = 0 ] || return 0
    local part
    chmod 755 "$TMP" # mktemp made it for root alone
    new_image store/roots.qcow2
    new_image store/nobodys.qcow2
    new_image store/groups.qcow2
    new_image store/secret.qcow2
    chmod 600 store/secret.qcow2
    chown 65534:65534 store/nobodys.qcow2
    chown 0:4242 store/groups.qcow2
    chmod 664 store/groups.qcow2
    mount_store "$TMP/store" all -o allow_other
    as_nobody bash -c "echo 'take s' >all/nobodys.qcow2/control" || fail "the owner may not command"
    as_nobody bash -c "echo 'take s' >all/groups.qcow2/control" || fail "the group may not command"
    as_nobody bash -c "echo 'take nobodys.qcow2 t' >all/control" || fail "the owner may not command through the store's file"
    as_nobody head -c 4096 all/roots.qcow2/disk >/dev/null || fail "others may not read"
    assert_denied "echo 'take s' >all/roots.qcow2/control"
    assert_denied "echo 'take roots.qcow2 s' >all/control"
    assert_denied "cat all/secret.qcow2/disk"
    assert_denied "cat all/secret.qcow2/info.json"
    assert_denied "echo 'take s' >all/secret.qcow2/control"
    # Who may write and not read gets to the control, and sees nothing.
    chmod 622 store/secret.qcow2
    as_nobody bash -c "echo 'take own' >all/secret.qcow2/control" || fail "who may only write may not command"
    as_nobody bash -c "echo 'delete own' >all/secret.qcow2/control" || fail "who may only write may not delete"
    for part in control disk info.json; do
        assert_denied "cat all/secret.qcow2/$part"
    done
    assert_denied "ls all/secret.qcow2"
    assert_denied "stat all/secret.qcow2/snapshots/s"
    chmod 600 store/secret.qcow2
    # What others have asked for is not told.
    control_ok all/control "take secret.qcow2 hidden" "delete secret.qcow2 hidden"
    as_nobody bash -c "echo 'take nobodys.qcow2 own' >all/control; echo 'delete nobodys.qcow2 own' >all/control" ||
        fail "the user's own commands"
    assert_match "$(cat all/control)" "take secret.qcow2 hidden.*take nobodys.qcow2 own" "what root sees"
    assert_match "$(as_nobody cat all/control)" "ok take nobodys.qcow2 own" "what the user sees"
    [[ "$(as_nobody cat all/control)" != *secret* ]] || fail "the user sees others' commands"
    as_nobody bash -c 'for i in $(seq 40); do echo rubbish >all/control; done' 2>/dev/null || true
    assert_match "$(cat all/control)" "take secret.qcow2 hidden" "what root sees, after 40 lines of somebody else's"
    as_nobody bash -c "echo 'take nobodys.qcow2 own' >all/control" || fail "a user who has written 40 times may not any more"
    as_nobody bash -c "echo 'delete nobodys.qcow2 own' >all/control"
    assert_eq "$("$QCTOOL" list store/roots.qcow2)" "" "snapshots of root's image"
    unmount_store all
    check_clean store/nobodys.qcow2 store/groups.qcow2
}

# What root is told of who reads in store/vault is not told others.
hidden_names() {
    assert_fails as_nobody bash -c 'exec 5<>all/nobodys.qcow2/control; echo "revert s" >&5 || { cat <&5; false; }'
    assert_match "$OUTPUT" "in an image that you may not see; close it first" "what nobody is told"
    assert_fails as_nobody bash -c "echo 'revert nobodys.qcow2 s' >all/control"
    control_fails EBUSY all/nobodys.qcow2/control "revert s"
    control_fails EBUSY all/control "revert nobodys.qcow2 s"
    assert_match "$(last_result all/control)" "in vault/over.qcow2; close it first" "what root is told"
    assert_match "$(last_result all/nobodys.qcow2/control)" "EBUSY revert s: .* in vault/over.qcow2; close it first" "what root is told"
    assert_match "$(as_nobody tail -n1 all/nobodys.qcow2/control)" "EBUSY revert s: .* in another image; close it first" "what others are told"
    ! as_nobody cat all/nobodys.qcow2/control all/control | grep -q over || fail "a name in a directory that is closed"
}

# Who may not look into a directory of the store gets nothing out of it by naming it, in a command
# or in an image, and is not told who reads what in there.
closed_directories() {
    [ "$(id -u)" = 0 ] || return 0
    mkdir -m 700 store/vault
    new_image store/vault/inner.qcow2
    chmod 666 store/vault/inner.qcow2
    (cd store && qemu-img create -q -f qcow2 -b vault/inner.qcow2 -F qcow2 rests.qcow2)
    (cd store/vault && qemu-img create -q -f qcow2 -b ../nobodys.qcow2 -F qcow2 over.qcow2)
    qemu-img snapshot -c s store/rests.qcow2
    mount_store "$TMP/store" all -o allow_other
    local part user
    assert_denied "echo 'take vault/inner.qcow2 stolen' >all/control"
    assert_match "$(last_result all/control)" "EACCES take vault/inner.qcow2 stolen: cannot reach vault/inner.qcow2$"
    for part in disk snapshots/s layers/0-rests.qcow2 layers/1-inner.qcow2; do
        assert_denied "cat all/rests.qcow2/$part"
        cat "all/rests.qcow2/$part" >/dev/null || fail "$part as root"
    done
    exec 3<all/vault/over.qcow2/disk
    assert_fails as_nobody bash -c "echo 'revert s' >all/nobodys.qcow2/control"
    assert_match "$OUTPUT" "$(message_of EBUSY)" "a command on what an image in there rests on"
    for user in as_nobody ""; do # root is told no more than who has asked
        assert_match "$($user tail -n1 all/nobodys.qcow2/control)" "in an image that you may not see; close it first" "result line"
    done
    hidden_names
    # Who may search a directory, but not list it, learns no names.
    chmod 711 store/vault
    hidden_names
    exec 3<&-
    chmod 700 store/vault
    as_nobody bash -c "echo 'revert s' >all/nobodys.qcow2/control" || fail "the owner may not command"
    chmod 711 store/vault
    as_nobody bash -c "echo 'take vault/inner.qcow2 s' >all/control" || fail "what may be reached"
    as_nobody cat all/rests.qcow2/disk >/dev/null || fail "what may be reached"
    unmount_store all
    assert_eq "$("$QCTOOL" list store/vault/inner.qcow2 | wc -l)" 1 "snapshots of the image in there"
}

# A daemon at $TMP/failing whose syncs of these numbers fail; strace counts for each thread that runs
# commands.
mount_failing() { # ERRNO WHEN
    mkdir -p failing
    ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f --seccomp-bpf -o /dev/null -e trace=fsync,fdatasync \
        -e "inject=fsync,fdatasync:error=$1:when=$2" "$SNAPTREE" -f "$TMP/store" "$TMP/failing" 2>/dev/null &
    PIDS+=($!)
    wait_for mountpoint -q failing
}

# The storage fails when the new metadata is to be made durable: EIO, and nothing changed.
eio() {
    command -v strace >/dev/null || return 0
    [ "$(id -u)" = 0 ] || return 0 # fusermount3 does not mount for who is traced
    new_image store/failing.qcow2
    mount_failing EIO 1
    control_fails EIO failing/failing.qcow2/control "take s"
    assert_snapshots failing.qcow2
    local i
    for i in $(seq 100); do
        control failing/failing.qcow2/control "take t"
        [ "$STATUS" != 0 ] || break
        assert_snapshots failing.qcow2
    done
    assert_eq "$STATUS" 0 "a command once the storage works"
    assert_snapshots failing.qcow2 t
    unmount_store failing
}

# The storage itself answers ECANCELED, as a FUSE file system may: no command was cancelled.
storage_says_cancelled() {
    command -v strace >/dev/null || return 0
    [ "$(id -u)" = 0 ] || return 0
    new_image store/failing2.qcow2
    mount_failing ECANCELED 1
    control_fails EIO failing/failing2.qcow2/control "take s"
    assert_match "$(last_result failing/failing2.qcow2/control)" "EIO take s: .*$(message_of ECANCELED)" "result line"
    assert_snapshots failing2.qcow2
    unmount_store failing
}

# The storage fails when the new header is to be made durable, and goes on failing when the old one
# is: no command goes on from what nobody knows.
nobody_knows() {
    command -v strace >/dev/null || return 0
    [ "$(id -u)" = 0 ] || return 0
    new_image store/unknown.qcow2
    mount_failing EIO 4..5
    control_fails EIO failing/unknown.qcow2/control "take s"
    assert_match "$(last_result failing/unknown.qcow2/control)" "whether it is made is not known" "result line"
    for _ in 1 2; do
        control_fails EIO failing/unknown.qcow2/control "take t"
        assert_match "$(last_result failing/unknown.qcow2/control)" "nobody knows what is on disk" "result line"
    done
    # What is restored from a backup is another file, even if it gets the number of the one before.
    rm store/unknown.qcow2
    new_image store/unknown.qcow2
    control failing/unknown.qcow2/control "take t"
    [[ "$(last_result failing/unknown.qcow2/control)" != *"nobody knows what is on disk"* ]] || fail "a file that was restored is refused"
    unmount_store failing
    control_ok mnt/unknown.qcow2/control "take u"
    check_clean store/unknown.qcow2
}

# Overlayfs makes another file of an image when a command opens it for writing: under the same number,
# but made later.
nobody_knows_on_overlayfs() {
    command -v strace >/dev/null || return 0
    [ "$(id -u)" = 0 ] || return 0
    mkdir lower upper work store/over
    new_image lower/unknown.qcow2
    mount -t overlay overlay -o "lowerdir=$TMP/lower,upperdir=$TMP/upper,workdir=$TMP/work" store/over 2>/dev/null ||
        return 0 # there is none, or $TMP lies on one
    mount_failing EIO 4..5
    control_fails EIO failing/over/unknown.qcow2/control "take s"
    assert_match "$(last_result failing/over/unknown.qcow2/control)" "whether it is made is not known" "result line"
    control_fails EIO failing/over/unknown.qcow2/control "take t"
    assert_match "$(last_result failing/over/unknown.qcow2/control)" "nobody knows what is on disk" "result line"
    unmount_store failing
    umount store/over
}

mkdir store
new_image store/web.qcow2
new_image store/quiet.qcow2
mount_store "$TMP/store" mnt
einval
e2big
names_that_are_there_or_not
links_to_nothing
made_up_images
ebusy_by_readers
ebusy_by_readers_of_overlays
erofs
enospc
efbig
euclean
eopnotsupp
eacces
closed_directories
eio
storage_says_cancelled
nobody_knows
nobody_knows_on_overlayfs
unmount_store mnt
