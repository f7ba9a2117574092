# What one user's image must not be able to do to others: read their images through the daemon's
# rights, or bring the tree to a halt.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 setpriv
requires_root
requires_fuse

NOBODY=(setpriv --reuid=65534 --regid=65534 --clear-groups)

# An image whose owner changes its backing file's name while its disk is open.
rename_backing_while_open() {
    "${NOBODY[@]}" /usr/bin/python3 - <<'END'
import os, time
fd = os.open("mnt/mine.qcow2/disk", os.O_RDONLY)
assert os.pread(fd, 8, 0) == b"P" * 8
with open("store/mine.qcow2", "r+b") as image:
    head = image.read(4096)
    image.seek(head.index(b"public.qcow2"))
    image.write(b"secret.qcow2")
time.sleep(0.1)
for path in None, "mnt/mine.qcow2/disk":
    try:
        got = os.pread(fd if path is None else os.open(path, os.O_RDONLY), 8, 0)
    except OSError:
        continue
    assert b"S" not in got, "another user's bytes: %r" % got
END
}

# Give a file or directory an access control list: entries TAG:PERM[:ID] in octal, as in acl(5).
set_list() { # PATH ENTRY...
    python3 - "$@" <<'END'
import os, struct, sys
tags = {"user_obj": 1, "user": 2, "group_obj": 4, "group": 8, "mask": 16, "other": 32}
data = struct.pack("<I", 2)
for entry in sys.argv[2:]:
    tag, perm, id = (entry + ":").split(":")[:3]
    data += struct.pack("<HHI", tags[tag], int(perm, 8), int(id) if id else 0xffffffff)
os.setxattr(sys.argv[1], "system.posix_acl_access", data)
END
}

# Rights in the middle of a mode that are those of somebody who is named in a list, not the group's.
lists_are_not_for_the_group() {
    local member=(setpriv --reuid=1234 --regid=4321 --clear-groups) way
    mkdir store/closed
    qemu-img create -q -f qcow2 store/listed.qcow2 1M
    qemu-img create -q -f qcow2 store/closed/inside.qcow2 1M
    qemu-img create -q -f qcow2 -b listed.qcow2 -F qcow2 store/over.qcow2
    chown 0:4321 store/listed.qcow2 store/closed
    chmod 600 store/listed.qcow2
    chmod 700 store/closed
    cat mnt/listed.qcow2/disk mnt/over.qcow2/disk mnt/closed/inside.qcow2/disk >/dev/null
    set_list store/listed.qcow2 user_obj:6 user:6:65534 group_obj:0 mask:6 other:0
    set_list store/closed user_obj:7 user:5:65534 group_obj:0 mask:5 other:0
    for way in store/closed/inside.qcow2 mnt/closed/inside.qcow2/disk; do
        assert_fails "${member[@]}" ls ${way%%/*}/closed
        assert_fails "${member[@]}" cat $way
    done
    assert_fails "${member[@]}" cat store/listed.qcow2
    assert_fails "${member[@]}" cat mnt/listed.qcow2/disk
    assert_fails "${member[@]}" cat mnt/over.qcow2/disk
    assert_fails "${member[@]}" cat mnt/over.qcow2/layers/1-listed.qcow2
    assert_fails "${member[@]}" sh -c 'echo "take stolen" >mnt/listed.qcow2/control'
    assert_fails "${member[@]}" sh -c 'echo "take listed.qcow2 stolen" >mnt/control'
    assert_eq "$(qemu-img snapshot -l store/listed.qcow2)" "" "snapshots"
    # What the list gives the group is the group's.
    set_list store/listed.qcow2 user_obj:6 user:6:65534 group_obj:4 mask:6 other:0
    "${member[@]}" cat mnt/listed.qcow2/disk >/dev/null || fail "what the group may"
    assert_fails "${member[@]}" sh -c 'echo "take stolen" >mnt/listed.qcow2/control'
}

# One opens a control file, another writes to it: a set-user-id program whose standard error it is, or
# one that has less rights than who started it. What only one of the two may do is not done.
handed_on() {
    qemu-img snapshot -c kept store/public.qcow2
    mkdir -m 700 store/barred
    qemu-img create -q -f qcow2 store/barred/open.qcow2 1M
    chmod 666 store/barred/open.qcow2
    python3 - <<'END' || fail "what only the opener or only the writer may"
import errno, os
os.setgroups([])

def attempt(opener, writer, control, line):
    os.seteuid(opener)
    fd = os.open(control, os.O_WRONLY)
    os.seteuid(0)
    os.seteuid(writer)
    try:
        os.write(fd, line)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.seteuid(0)
        os.close(fd)

for opener, writer, control, line, wanted in (
    (65534, 0, "mnt/control", b"delete public.qcow2 kept\n", "EACCES"),
    (65534, 0, "mnt/control", b"check secret.qcow2\n", "EACCES"),
    (65534, 0, "mnt/control", b"take barred/open.qcow2 s\n", "EACCES"),
    (0, 65534, "mnt/control", b"delete public.qcow2 kept\n", "EACCES"),
    (0, 65534, "mnt/public.qcow2/control", b"delete kept\n", "EACCES"),
    (1234, 65534, "mnt/control", b"take mine.qcow2 s\n", "EACCES"),
    (65534, 1234, "mnt/mine.qcow2/control", b"take s\n", "EACCES"),
    (65534, 0, "mnt/mine.qcow2/control", b"take s\n", "done"),
    (0, 65534, "mnt/control", b"delete mine.qcow2 s\n", "done"),
    (0, 0, "mnt/control", b"check secret.qcow2\n", "done"),
):
    got = attempt(opener, writer, control, line)
    assert got == wanted, (opener, writer, control, line, got)
END
    assert_match "$(qemu-img snapshot -l store/public.qcow2)" " kept "
    # The same by a descriptor that a shell hands down.
    exec 3<>mnt/public.qcow2/control
    assert_fails "${NOBODY[@]}" sh -c 'echo "delete kept" >&3'
    exec 3>&-
    qemu-img snapshot -d kept store/public.qcow2 || fail "the snapshot is gone"
}

# A backing file whose name leads out of the store and back lies below the store's directories all
# the same.
by_way_of_the_outside() {
    local name
    mount_store "$TMP/store" "$TMP/any" -o allow_other,backing=any
    for name in "$TMP/store/barred/open.qcow2" ../store/barred/open.qcow2; do
        chmod 700 store/barred
        (cd store && qemu-img create -q -f qcow2 -b "$name" -F qcow2 round.qcow2)
        chown 65534:65534 store/round.qcow2
        cat any/round.qcow2/disk >/dev/null || fail "what root may"
        assert_fails "${NOBODY[@]}" cat any/round.qcow2/disk
        assert_match "$OUTPUT" "$(message_of EACCES)" "into a directory by $name"
        chmod 711 store/barred
        "${NOBODY[@]}" cat any/round.qcow2/disk >/dev/null || fail "what nobody may"
    done
    unmount_store "$TMP/any"
    rm -r store/barred store/round.qcow2
}

# What a link leads to lies below directories of its own, which may let less people pass.
links_are_no_way_round() {
    local i part
    mkdir -m 755 store/shut
    qemu-img create -q -f qcow2 store/shut/in.qcow2 1M
    chmod 666 store/shut/in.qcow2
    ln -s shut/in.qcow2 store/link.qcow2
    ln -s link.qcow2 store/far.qcow2
    (cd store && qemu-img create -q -f qcow2 -b link.qcow2 -F qcow2 rests.qcow2)
    chown 65534:65534 store/rests.qcow2
    for i in 1 2; do # once more with images that are open already
        chmod 755 store/shut
        "${NOBODY[@]}" cat mnt/{link,far,rests}.qcow2/disk mnt/link.qcow2/info.json >/dev/null || fail "what nobody may"
        "${NOBODY[@]}" sh -c "echo 'take s$i' >mnt/far.qcow2/control" || fail "a command that nobody may"
        chmod 700 store/shut
        sleep 0.1 # what the kernel may be told of directories
        assert_fails "${NOBODY[@]}" cat store/link.qcow2
        for part in {link,far,rests}.qcow2/disk rests.qcow2/layers/1-link.qcow2 link.qcow2/info.json; do
            assert_fails "${NOBODY[@]}" cat "mnt/$part"
        done
        assert_fails "${NOBODY[@]}" ls mnt/link.qcow2
        assert_fails "${NOBODY[@]}" sh -c 'echo "take stolen" >mnt/far.qcow2/control'
        assert_fails "${NOBODY[@]}" sh -c 'echo "take far.qcow2 stolen" >mnt/control'
        cat mnt/{link,far,rests}.qcow2/disk mnt/link.qcow2/info.json >/dev/null || fail "what root may"
    done
    # A link to the directory, on the way to a backing file: neither it nor what the link lies in is shut.
    mkdir -m 755 store/on
    ln -s shut store/way
    ln -s ../way store/on/further
    (cd store && qemu-img create -q -f qcow2 -b way/in.qcow2 -F qcow2 by-way.qcow2 &&
        qemu-img create -q -f qcow2 -b on/further/in.qcow2 -F qcow2 further.qcow2)
    chown 65534:65534 store/{by-way,further}.qcow2
    for i in 755:755 700:755 755:700; do
        chmod "${i%:*}" store/shut
        chmod "${i#*:}" store/on
        sleep 0.1
        for part in {by-way,further}.qcow2/{disk,layers/1-in.qcow2}; do
            cat "mnt/$part" >/dev/null || fail "$part, which root may, with $i"
            if [ $i = 755:755 ] || [[ $i:$part = 755:700:by-way* ]]; then
                "${NOBODY[@]}" cat "mnt/$part" >/dev/null || fail "$part, which nobody may, with $i"
            else
                assert_fails "${NOBODY[@]}" cat "mnt/$part"
                assert_match "$OUTPUT" "$(message_of EACCES)" "$part with $i"
            fi
        done
    done
    rm -r store/on store/way store/{by-way,further}.qcow2
    # Who may search the directory as its group, which is the file's too.
    chown 0:4321 store/shut store/shut/in.qcow2
    chmod 750 store/shut
    chmod 640 store/shut/in.qcow2
    setpriv --reuid=1234 --regid=4321 --clear-groups cat mnt/link.qcow2/disk >/dev/null || fail "what the group may"
    setpriv --reuid=1234 --regid=1234 --groups=4321 cat mnt/link.qcow2/disk >/dev/null || fail "what a further group may"
    assert_fails "${NOBODY[@]}" cat mnt/link.qcow2/disk
    # Who owns a directory and may not search it is not among the group; root may search all.
    chown 65534 store/shut/in.qcow2
    chmod 660 store/shut/in.qcow2
    chmod 050 store/shut
    setpriv --reuid=1234 --regid=4321 --clear-groups sh -c 'echo "take group" >mnt/link.qcow2/control' || fail "a command that the group may"
    chown 1234 store/shut
    sleep 0.1
    assert_fails setpriv --reuid=1234 --regid=4321 --clear-groups sh -c 'echo "take stolen" >mnt/link.qcow2/control'
    assert_eq "$(qemu-img snapshot -l store/shut/in.qcow2 | grep -c stolen)" 0 "snapshots that nobody may take"
}

# Names that are exchanged all the time: what the kernel has asked of the one that had the name a moment
# ago does not hold for the other.
exchanged_names() {
    local name
    mkdir -m 755 store/open
    mkdir -m 700 store/private
    for name in open/swap private/swap; do
        qemu-img create -q -f qcow2 store/$name.qcow2 1M
    done
    qemu-img snapshot -c public store/open/swap.qcow2
    qemu-img snapshot -c classified store/private/swap.qcow2
    cp store/private/swap.qcow2 store/private/classified.qcow2
    chmod 600 store/private/swap.qcow2
    python3 - <<'END' || fail "what is not for nobody"
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def exchange(a, b):
    for _ in range(2):
        if libc.renameat2(-100, a, -100, b, 2):
            os._exit(1)
        time.sleep(0.0007)

def read(path):
    if os.path.isdir(path):
        return " ".join(os.listdir(path))
    with open(path) as file:
        return file.read()

swapped = ((b"store/open/swap.qcow2", b"store/private/swap.qcow2",
            ("mnt/open/swap.qcow2/info.json", "mnt/open/swap.qcow2/snapshots")),
           (b"store/open", b"store/private", ("mnt/open",)))
for a, b, shown in swapped:
    child = os.fork()
    if child == 0:
        while True:
            exchange(a, b)
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    told = set()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        for path in shown:
            try:
                if "classified" in read(path):
                    told.add(path)
            except OSError:
                pass
    os.seteuid(0)
    os.setegid(0)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if told or not os.WIFSIGNALED(status):
        sys.exit("nobody was told of another user's image by %s; status %d" % (sorted(told), status))
END
    rm -r store/open store/private
}

# Whoever gets the name of an image does not get what was done to the one that had it before.
results_of_a_name() {
    local way
    for way in renamed made; do
        qemu-img create -q -f qcow2 store/name.qcow2 1M
        chmod 600 store/name.qcow2
        exec 3<mnt/name.qcow2/control
        control_ok mnt/control "take name.qcow2 private-$way"
        control_fails EEXIST mnt/name.qcow2/control "take private-$way"
        control_fails EINVAL mnt/name.qcow2/control "private-$way"
        assert_eq "$(grep -c private-$way mnt/name.qcow2/control)" 3 "results of the file that is there"
        if [ $way = made ]; then
            rm store/name.qcow2
            qemu-img create -q -f qcow2 store/name.qcow2 1M
        else
            qemu-img create -q -f qcow2 store/another.qcow2 1M
            mv store/another.qcow2 store/name.qcow2
        fi
        chown 65534 store/name.qcow2
        control_ok mnt/name.qcow2/control "take own"
        assert_match "$("${NOBODY[@]}" tail -n1 mnt/name.qcow2/control)" " ok take own$"
        ! "${NOBODY[@]}" grep private mnt/name.qcow2/control || fail "results of another file, $way"
        ! grep private <&3 || fail "results of another file, $way, in one that was open"
        exec 3<&-
        rm store/name.qcow2
    done
    assert_eq "$(grep -c private mnt/control)" 2 "results in the store's own control"
}

# Who has opened a control file or a directory reads nothing new there once the image is not for him.
results_of_what_was_closed() {
    python3 - <<'END' || fail "what is new of an image that the reader may not read any more"
import os
os.setgroups([])
os.seteuid(65534)
fd = os.open("mnt/public.qcow2/control", os.O_RDONLY)
snapshots = os.open("mnt/public.qcow2/snapshots", os.O_RDONLY)
os.seteuid(0)
def command(line):
    with open("mnt/public.qcow2/control", "w") as control:
        control.write(line)
command("check\n")
assert b" ok check" in os.pread(fd, 65536, 0)
assert os.listdir(snapshots) == []
os.chmod("store/public.qcow2", 0o600)
command("take new\n")
text = os.pread(fd, 65536, 0)
try:
    names = os.listdir(snapshots)
except PermissionError:
    names = []
command("delete new\n")
os.chmod("store/public.qcow2", 0o644)
assert text.startswith(b"#") and b" ok " not in text, text
assert names == [], names
END
}

# A link in the store that leads back into the mount: whoever follows it waits for himself.
link_into_the_mount() {
    ln -s "$TMP/mnt/loop.raw/disk" store/loop.raw
    timeout -s KILL 20 ls -l mnt mnt/loop.raw >/dev/null || fail "ls: status $?"
    timeout -s KILL 20 cat mnt/control >/dev/null || fail "the tree stands still"
    assert_match "$(cat mnt/loop.raw/error)" "out of the store"
}

# A backing file whose directory is moved out of the store, with a link left in its place: its state
# is the same, but it lies outside now. Nothing that is still open may make up for that.
moved_out_of_the_store() {
    local part
    mkdir store/sub outside
    qemu-img create -q -f qcow2 store/sub/base.qcow2 1M
    (cd store && qemu-img create -q -f qcow2 -b sub/base.qcow2 -F qcow2 top.qcow2)
    qemu-img snapshot -c s store/top.qcow2
    sleep 0.1
    cat mnt/top.qcow2/disk mnt/top.qcow2/snapshots/s >/dev/null || fail "inside the store"
    mv store/sub outside/
    ln -s "$TMP/outside/sub" store/sub
    for part in disk snapshots/s layers/1-base.qcow2; do
        ! cat "mnt/top.qcow2/$part" >/dev/null 2>&1 || fail "$part rests on a file outside"
    done
    assert_match "$(cat mnt/top.qcow2/error)" "outside the store"
    rm -r store/sub outside store/top.qcow2
}

# With backing=any a backing file may lie anywhere, but in the tree itself, by any way.
backing_file_in_the_mount() {
    local i
    mkdir ring
    ln -s "$TMP/ringmnt" way
    for i in $(seq 0 39); do
        qemu-img create -q -u -f qcow2 -F raw -b "$TMP/ringmnt/$(((i + 1) % 40)).qcow2/disk" ring/$i.qcow2 1M
    done
    qemu-img create -q -u -f qcow2 -F raw -b "$TMP/way/a-link.qcow2/disk" ring/a-link.qcow2 1M
    qemu-img create -q -f qcow2 -F qcow2 -b "$TMP/store/public.qcow2" ring/good.qcow2
    mount_store "$TMP/ring" "$TMP/ringmnt" -o backing=any
    find ringmnt -name error | timeout -s KILL 60 xargs -P 42 -n 1 cat >errors || fail "errors: status $?"
    assert_eq "$(grep -c "$(message_of EDEADLK)" errors)" 41 "images that lead into the tree"
    assert_same ringmnt/good.qcow2/disk "$(qemu_raw ring/good.qcow2)"
    unmount_store "$TMP/ringmnt"
}

# The tree turns up inside its own store: it is not shown there, and nobody waits for himself.
tree_in_its_own_store() {
    mkdir store/again
    mount --bind mnt store/again
    seq 60 | timeout -s KILL 60 xargs -P 60 -n 1 sh -c 'ls -l mnt/again >/dev/null 2>&1; ls mnt >/dev/null' || fail "ls: status $?"
    ! ls mnt | grep -q again || fail "the tree is in itself"
    # Nor where a link leads through it: of one directory, the kernel asks several things at once.
    ln -s again/public.qcow2/disk store/round.qcow2
    timeout -s KILL 20 ls mnt mnt/round.qcow2 >/dev/null || fail "ls by way of a link: status $?"
    assert_match "$(timeout -s KILL 20 cat mnt/round.qcow2/error)" "$(message_of EDEADLK)" "a link into the tree"
    rm store/round.qcow2
    umount store/again
    ls -d mnt/again >/dev/null || fail "a directory is not shown"
}

# A process of nobody's takes leases of a type on files, and does not give them back: $HOLDER.
hold_leases() { # TYPE FILE...
    rm -f holding
    "${NOBODY[@]}" /usr/bin/python3 -c 'import fcntl, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
files = [open(path) for path in sys.argv[2:]]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, getattr(fcntl, sys.argv[1]))
print(flush=True)
time.sleep(600)' "$@" >holding &
    HOLDER=$!
    PIDS+=("$HOLDER")
    wait_for test -s holding
}

# Who owns images can keep every program from opening them for 45 seconds; not from others' images.
leases() {
    local i
    for i in $(seq 10); do
        qemu-img create -q -f qcow2 "store/leased$i.qcow2" 1M
        chown 65534:65534 "store/leased$i.qcow2"
    done
    hold_leases F_WRLCK store/leased*.qcow2
    timeout -s KILL 10 ls -l mnt >/dev/null || fail "ls beside leases: status $?"
    timeout -s KILL 10 cat mnt/public.qcow2/disk >/dev/null || fail "another image beside leases: status $?"
    control_fails EBUSY mnt/control "take leased1.qcow2 s"
    assert_match "$(last_result mnt/control)" "EBUSY take leased1.qcow2 s: leased1.qcow2: a program holds a lease"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    timeout -s KILL 10 cat mnt/leased{1,10}.qcow2/disk >/dev/null || fail "once the leases are gone"
    # One that keeps out writers only.
    hold_leases F_RDLCK store/leased1.qcow2
    cat mnt/leased1.qcow2/disk >/dev/null || fail "reading beside a reader's lease"
    control_fails EBUSY mnt/control "take leased1.qcow2 s"
    assert_match "$(last_result mnt/control)" "\(process $HOLDER\) has leased1.qcow2 open: .*: a program holds a lease"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    control_ok mnt/control "take leased1.qcow2 s"
    rm store/leased*
}

# An image from the future (a clock that was wrong, cp -p, rsync -t) is an image like any other.
from_the_future() {
    touch -d '+1 day' store/public.qcow2
    assert_same mnt/public.qcow2/disk "$(qemu_raw store/public.qcow2)"
}

chmod 755 "$TMP"
mkdir store
for name in public secret; do
    qemu-img create -q -f qcow2 store/$name.qcow2 1M
done
qemu-io -c 'write -q -P 0x50 0 64K' store/public.qcow2
qemu-io -c 'write -q -P 0x53 0 64K' store/secret.qcow2
qemu-img create -q -f qcow2 -b public.qcow2 -F qcow2 store/mine.qcow2
chmod 600 store/secret.qcow2
chown 65534:65534 store/mine.qcow2
mount_store "$TMP/store" "$TMP/mnt" -o allow_other
rename_backing_while_open
lists_are_not_for_the_group
handed_on
by_way_of_the_outside
links_are_no_way_round
exchanged_names
results_of_a_name
results_of_what_was_closed
tree_in_its_own_store
link_into_the_mount
leases
from_the_future
moved_out_of_the_store
backing_file_in_the_mount
