# The tree: what is shown, how it is named, and what stat says of it.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

listing() {
    (cd "$1" && printf '%s\n' *)
}

assert_listing() { # DIRECTORY NAME...
    local dir=$1
    shift
    assert_eq "$(listing "$dir")" "$(printf '%s\n' "$@")" "entries of $dir"
}

make_store() {
    mkdir -p store/team-a/empty "store/odd dir"
    qemu-img create -q -f qcow2 store/base.qcow2 1M
    scribble store/base.qcow2 base 0 1048576
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 store/web.qcow2 3M
    scribble store/web.qcow2 web 100000 200000
    qemu-img snapshot -c one store/web.qcow2
    qemu-img resize -q store/web.qcow2 4M
    (cd store/team-a && qemu-img create -q -f qcow2 -b ../web.qcow2 -F qcow2 deep.qcow2)
    cp store/base.qcow2 "store/no-extension"
    cp store/base.qcow2 store/named.vmdk
    cp store/base.qcow2 "store/odd dir/with space, \"quotes\" & %41 ü.qcow2"
    cp store/base.qcow2 $'store/new\nline.qcow2'
    cp store/base.qcow2 $'store/byte-\xff.qcow2'
    cp store/base.qcow2 store/.hidden.qcow2
    noise raw 700000 >store/disk.raw
    cp store/disk.raw store/disk.img
    cp store/disk.raw store/disk.iso
    echo "not an image" >store/notes.txt
    cp store/disk.raw store/no-image
    : >store/empty.raw
    cp store/disk.raw store/.raw
    mkfifo store/fifo.raw
    ln -s web.qcow2 store/link.qcow2
    ln -s missing store/dangling.raw
}

shows_images_only() {
    assert_listing mnt base.qcow2 $'byte-\xff.qcow2' control dangling.raw disk.img disk.iso disk.raw empty.raw \
        link.qcow2 named.vmdk $'new\nline.qcow2' no-extension "odd dir" team-a web.qcow2
    assert_eq "$(ls -fa mnt | head -n 2 | tr '\n' ' ')" ". .. " "what every directory has"
    [ -d mnt/.raw ] || fail "a name that is nothing but its ending"
    [ -d mnt/.hidden.qcow2 ] || fail "a name with a dot in front is an image as well"
    [ ! -e mnt/notes.txt ] || fail "a file that is no image can be looked up"
    [ ! -e mnt/no-image ] || fail "a raw file without its ending can be looked up"
    [ ! -e mnt/fifo.raw ] || fail "a FIFO can be looked up"
    assert_eq "$(cat mnt/dangling.raw/error)" "dangling.raw is a link that leads to no file"
    assert_listing mnt/team-a deep.qcow2 empty
    assert_listing mnt/web.qcow2 control disk info.json layers snapshots
    assert_listing mnt/web.qcow2/snapshots one
    assert_listing mnt/web.qcow2/layers 0-web.qcow2 1-base.qcow2
    assert_listing mnt/team-a/deep.qcow2/layers 0-deep.qcow2 1-web.qcow2 2-base.qcow2
    assert_listing mnt/disk.raw/layers 0-disk.raw
    assert_eq "$(ls mnt/disk.raw/snapshots)" "" "snapshots of a raw image"
}

contents_are_right() {
    local image
    for image in web.qcow2 team-a/deep.qcow2 base.qcow2 no-extension named.vmdk \
        "odd dir/with space, \"quotes\" & %41 ü.qcow2" $'new\nline.qcow2' $'byte-\xff.qcow2' .hidden.qcow2; do
        cmp "mnt/$image/disk" "$(qemu_raw "store/$image" -f qcow2)" || fail "disk of $image"
    done
    # QEMU pads a raw file to whole sectors, and so its virtual size is that.
    cmp mnt/disk.raw/disk "$(qemu_raw store/disk.raw -f raw)" || fail "raw disk"
    cmp mnt/empty.raw/disk store/empty.raw || fail "empty disk"
    cmp mnt/team-a/deep.qcow2/layers/2-base.qcow2 mnt/base.qcow2/disk || fail "layer 2"
    cmp mnt/team-a/deep.qcow2/layers/1-web.qcow2 mnt/web.qcow2/disk || fail "layer 1"
    cmp mnt/web.qcow2/layers/0-web.qcow2 mnt/web.qcow2/disk || fail "layer 0"
}

stat_is_right() {
    assert_eq "$(stat -c %s mnt/web.qcow2/disk)" 4194304 "size of disk"
    assert_eq "$(stat -c %s mnt/web.qcow2/snapshots/one)" 3145728 "size of the snapshot"
    assert_eq "$(stat -c %s mnt/web.qcow2/layers/1-base.qcow2)" 1048576 "size of layer 1"
    assert_eq "$(stat -c %s mnt/disk.raw/disk)" 700416 "size of a raw disk"
    assert_eq "$(stat -c %s mnt/empty.raw/disk)" 0 "size of an empty disk"
    assert_eq "$(stat -c %y mnt/web.qcow2/disk)" "$(stat -c %y store/web.qcow2)" "mtime of disk"
    local taken
    taken=$(qemu-img info --output=json store/web.qcow2 | python3 -c 'import json, sys
s = json.load(sys.stdin)["snapshots"][0]; print("%d.%09d" % (s["date-sec"], s["date-nsec"]))')
    assert_eq "$(stat -c %.9Y mnt/web.qcow2/snapshots/one)" "$taken" "mtime of the snapshot"
    assert_eq "$(stat -c %.9Z mnt/web.qcow2/snapshots/one)" "$taken" "ctime of the snapshot"
    # With two links a directory is taken to have none in it, and walked no further.
    assert_eq "$(find mnt -type d ! -links 1 | head -n 3)" "" "directories that say how many are in them"
    assert_eq "$(stat -f -c '%b %S' mnt)" "$(stat -f -c '%b %S' store)" "size of the file system"
    # What the files occupy: no more than what is there, in any unit du likes.
    [ "$(du -k mnt/web.qcow2/disk | cut -f1)" -le 4096 ] || fail "disk occupies more than its size"
}

# Owner, group and the read bits are those of the image file.
modes_are_right() {
    chmod 640 store/web.qcow2
    chown 12:34 store/web.qcow2 2>/dev/null || true
    local owner file
    owner=$(stat -c %u:%g store/web.qcow2)
    for file in disk snapshots/one layers/0-web.qcow2 info.json; do
        assert_eq "$(stat -c '%A %u:%g' "mnt/web.qcow2/$file")" "-r--r----- $owner" "stat of $file"
    done
    # A lower layer is another image file, with an owner of its own.
    chmod 600 store/base.qcow2
    assert_eq "$(stat -c '%A %u:%g' mnt/web.qcow2/layers/1-base.qcow2)" "-r-------- $(stat -c %u:%g store/base.qcow2)" "stat of layer 1"
    chmod 644 store/base.qcow2
    assert_match "$(stat -c '%A %u:%g' mnt/web.qcow2/control)" "^-rw-.-----? $owner|^-rw-r----- $owner|^-rw------- $owner" "stat of control"
    assert_eq "$(stat -c %F mnt/web.qcow2)" directory
    chmod 444 store/disk.raw
    assert_match "$(stat -c %A mnt/disk.raw/control)" "^-r--" "control of an image that nobody may write"
    chmod 644 store/disk.raw
}

# Each way to write something that is no control file.
nothing_else_is_writable() {
    local file
    for file in web.qcow2/disk web.qcow2/snapshots/one web.qcow2/layers/1-base.qcow2 web.qcow2/info.json; do
        assert_fails bash -c "echo x >mnt/$file"
        assert_fails bash -c "echo x >>mnt/$file"
        assert_fails truncate -s 0 "mnt/$file"
        assert_fails rm -f "mnt/$file"
        assert_fails mv "mnt/$file" "mnt/$file.new"
    done
    assert_fails mkdir mnt/new
    assert_fails touch mnt/new
    assert_fails rmdir mnt/web.qcow2
    assert_fails ln -s x mnt/web.qcow2/x
    assert_fails rm -f mnt/web.qcow2/control
    check_clean store/web.qcow2
    [ "$(id -u)" = 0 ] || return 0 # the modes keep others out before
    python3 - <<'END' || fail "see above"
import errno, os

def fails(wanted, what, *arguments, **named):
    try:
        what(*arguments, **named)
        raise SystemExit("%s%r is possible" % (what.__name__, arguments))
    except OSError as error:
        assert error.errno == wanted, (what.__name__, arguments, error)

control, snapshots = "mnt/web.qcow2/control", "mnt/web.qcow2/snapshots"
for path in "mnt/web.qcow2/disk", snapshots + "/one", "mnt/web.qcow2/info.json":
    fails(errno.EROFS, os.open, path, os.O_WRONLY)
    fails(errno.EROFS, os.open, path, os.O_RDONLY | os.O_TRUNC)
    fails(errno.EROFS, os.truncate, path, 0)
for path in "mnt/web.qcow2/disk", control, snapshots:
    fails(errno.EPERM, os.chmod, path, 0o777)
    fails(errno.EPERM, os.chown, path, 1, 1)
    fails(errno.EPERM, os.utime, path, (1, 1))
    fails(errno.EPERM, os.rename, path, path + ".new")
fails(errno.EPERM, os.unlink, control)
fails(errno.EPERM, os.link, control, "mnt/web.qcow2/new")
fails(errno.EPERM, os.symlink, "x", snapshots + "/new")
fails(errno.EPERM, os.mkdir, snapshots + "/new")
fails(errno.EPERM, os.rmdir, snapshots)
fails(errno.EPERM, os.mkfifo, snapshots + "/new")
fails(errno.EPERM, os.open, snapshots + "/new", os.O_CREAT | os.O_WRONLY)
END
}

# More than one answer to the kernel holds.
long_list() {
    python3 - <<'END' || fail "see above"
import os

names = ["%0100d" % i for i in range(6000)]
for name in names:
    os.makedirs("store/long/" + name)
listed = os.listdir("mnt/long")
assert sorted(listed) == names, len(listed)
END
    rm -r store/long
}

# Directories in each other until no path can lead further down: what can be reached is listed.
deep_directories() {
    python3 - <<'END'
import os
os.mkdir("store/deep")
os.chdir("store/deep")
for i in range(80): # 81 characters each
    os.mkdir("%080d" % i)
    os.chdir("%080d" % i)
END
    find mnt/deep >found || fail "find: status $?"
    local deep
    deep=$(realpath store/deep)
    assert_eq "$(wc -l <found)" $(((4095 - ${#deep}) / 81 + 1)) "directories found"
    rm -r store/deep
}

too_long_names() {
    local dir
    for dir in mnt mnt/web.qcow2 mnt/web.qcow2/snapshots mnt/web.qcow2/layers; do
        python3 - "$dir" <<'END' || fail "see above"
import errno, os, sys
for length, wanted in (255, errno.ENOENT), (256, errno.ENAMETOOLONG), (1000, errno.ENAMETOOLONG):
    try:
        os.stat(sys.argv[1] + "/" + "n" * length)
        raise SystemExit("%d bytes are found" % length)
    except OSError as error:
        assert error.errno == wanted, (sys.argv[1], length, error)
END
    done
}

# Programs that copy extended attributes hear that there are none.
no_extended_attributes() {
    tar --xattrs -cf all.tar -C mnt/web.qcow2 . 2>err || fail "tar --xattrs: $(cat err)"
    assert_eq "$(cat err)" "" "what tar --xattrs says"
    rm all.tar
    python3 - <<'END' || fail "extended attributes"
import errno, os
for path in "mnt", "mnt/web.qcow2", "mnt/web.qcow2/disk", "mnt/web.qcow2/control":
    assert os.listxattr(path) == [], path
    try:
        os.getxattr(path, "user.x")
        raise SystemExit(path)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
END
}

inodes() {
    (cd mnt && find . -printf '%i %p\n' | sort -k2)
}

inodes_stay() {
    inodes >inodes.before
    assert_eq "$(cut -d' ' -f1 inodes.before | sort | uniq -d)" "" "inode numbers that come twice"
    (cd mnt && ls -laRi . >/dev/null)
    unmount_store mnt
    mount_store store mnt
    # In another order, so that no number can come from counting.
    ls -i mnt/web.qcow2/snapshots mnt/team-a >/dev/null
    inodes >inodes.after
    assert_same inodes.before inodes.after "inode numbers after a remount"
    assert_eq "$(ls -i mnt/web.qcow2/snapshots | cut -d' ' -f1)" "$(stat -c %i mnt/web.qcow2/snapshots/one)" \
        "inode number in readdir and stat"
}

# ---- snapshot names ----

# Names that QEMU accepts and a file system does not; the driver prints what must be shown.
make_snapshot_names() {
    local name
    qemu-img create -q -f qcow2 store/names.qcow2 1M
    for name in plain 'with space' 'a/b' '50%' '%41' . .. ... $'new\nline' $'tab\t' $'del\x7f' \
        ../../etc/x $'caf\xc3\xa9' "it's" 1 twice twice; do
        qemu-img snapshot -c "$name" store/names.qcow2
    done
    qemu-img snapshot -c "$(printf '%0255d' 7)" store/names.qcow2
    qemu-img snapshot -c "$(printf '/%.0s' {1..255})" store/names.qcow2
    qemu-img snapshot -c '' store/names.qcow2
}

# One line per entry, bytes and all.
entries() {
    python3 -c 'import os, sys
for name in sorted(os.listdir(os.fsencode(sys.argv[1]))): print(ascii(name))' "$1"
}

snapshot_names_are_escaped() {
    local name
    for name in plain 'with space' 'a%2Fb' '50%25' '%2541' '%2E' '%2E%2E' ... 'new%0Aline' 'tab%09' 'del%7F' \
        '..%2F..%2Fetc%2Fx' "it's" 1 'twice~17' "$(printf '%0255d' 7)" '~20'; do
        [ -f "mnt/names.qcow2/snapshots/$name" ] || fail "there is no snapshots/$name: $(entries mnt/names.qcow2/snapshots)"
    done
    assert_eq "$(ls -UA mnt/names.qcow2/snapshots | wc -l)" 20 "number of snapshots shown"
    assert_eq "$(ls -UA mnt/names.qcow2/snapshots | sort -u | wc -l)" 20 "number of different names"
    assert_eq "$(ls -A mnt/names.qcow2/snapshots | awk 'length > 255')" "" "names over 255 bytes"
    ls -A mnt/names.qcow2/snapshots | grep -q '^%2F%2F.*~19$' || fail "the long name is not shortened with its id"
}

# Whatever ls prints is what a control command accepts. One at a time: when the other of two with
# one name is gone, the name is not there twice any more and needs no ~ID.
shown_names_are_accepted() {
    local name count
    for ((count = 19; count >= 0; count--)); do
        name=$(ls -UA mnt/names.qcow2/snapshots | head -n1)
        control_ok mnt/names.qcow2/control \
            "delete $(python3 -c 'import shlex, sys; print(shlex.quote(sys.argv[1]))' "$name")"
        [ ! -e "mnt/names.qcow2/snapshots/$name" ] || fail "$name is there after it was deleted"
        assert_eq "$(qemu-img info --output=json store/names.qcow2 | grep -c vm-clock-nsec || true)" $count \
            "snapshots left after delete $name"
    done
    check_clean store/names.qcow2
}

# What no program expects of a file: a size that no disk can have, and a time that 64 bits of
# nanoseconds do not hold.
odd_files() {
    local dir
    dir=$(mktemp -d /dev/shm/snaptree-test.XXXXXX) || return 0
    on_exit "rm -rf $dir"
    mkdir mnt2
    truncate -s 9223372036854775807 "$dir/big.raw"
    truncate -s 1M "$dir/late.raw"
    touch -d '2300-01-01 UTC' "$dir/late.raw"
    mount_store "$dir" mnt2
    ls -lR mnt2 >list || fail "ls -lR: status $?"
    assert_match "$(cat mnt2/big.raw/error)" "larger than a disk" "error of an endless file"
    assert_match "$(stat -c %y mnt2/late.raw/disk)" "^2262-04-11 " "the last time that can be shown"
    unmount_store mnt2
}

block_devices() {
    [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] || return 0
    local device
    cp store/base.qcow2 loop.file
    truncate -s 8M loop.file # room for what a command writes: a device does not grow
    device=$(losetup -f --show loop.file) || return 0
    on_exit losetup -d "$device"
    ln -s "$device" store/volume
    cmp mnt/volume/disk "$(qemu_raw store/base.qcow2)" || fail "qcow2 on a block device"
    noise volume 1048576 >loop.raw
    device=$(losetup -f --show loop.raw)
    on_exit losetup -d "$device"
    ln -sfn "$device" store/rawvolume
    assert_eq "$(stat -c %s mnt/rawvolume/disk)" 1048576 "size of a block device"
    cmp mnt/rawvolume/disk loop.raw || fail "raw block device"
    control_ok mnt/volume/control "take s"
    check_clean "$(readlink store/volume)"
    cmp mnt/volume/snapshots/s mnt/base.qcow2/disk || fail "snapshot on a block device"
    rm store/volume store/rawvolume
}

# A lock changes nothing of the file; what was said of it before does not hold any more.
in_use_is_as_it_is_now() {
    python3 - <<'END' || fail "whether an image is in use"
import fcntl, json, os, struct

def in_use():
    with open("mnt/web.qcow2/info.json") as file:
        return json.load(file)["snaptree"]["in-use"]

for _ in range(2):
    assert not in_use()
    fd = os.open("store/web.qcow2", os.O_RDONLY)
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0)) # F_OFD_SETLK
    assert in_use()
    os.close(fd)
END
}

make_store
mount_store store mnt
shows_images_only
contents_are_right
stat_is_right
modes_are_right
nothing_else_is_writable
long_list
deep_directories
too_long_names
no_extended_attributes
make_snapshot_names
snapshot_names_are_escaped
inodes_stay
shown_names_are_accepted
block_devices
odd_files
in_use_is_as_it_is_now
unmount_store mnt
