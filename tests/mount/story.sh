# The story of a user: a file system in an image, a snapshot mounted from the tree, the files of
# that day found in it, and the disk brought back by an echo.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires_root
requires qemu-img qemu-io mke2fs e2fsck losetup diff
requires_fuse

FILES=10 # as many copies of real files as fit

# Real files of this machine and of the source tree, sizes and names of all kinds.
make_files() {
    mkdir -p files/bin files/src files/empty
    cp /bin/bash /bin/ls files/bin/
    cp -r "$SRCDIR/tests" "$SRCDIR/include" files/src/
    ln -s ../bin/bash files/src/link
    truncate -s 3M files/sparse
    echo end >>files/sparse
    local i
    for i in $(seq $FILES); do
        noise "file $i" $((i * 12345)) >"files/noise $i"
    done
}

# The files as an ext4 file system: a base image, and a disk on top of it where it was grown up.
make_image() {
    mkdir store
    mke2fs -q -t ext4 -d files disk.raw 64M
    qemu-img convert -O qcow2 -c disk.raw store/base.qcow2
    (cd store && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 web.qcow2)
    rm disk.raw
}

# Work inside the disk, as the VM would: through qemu-nbd's place, here a loop device on a raw copy
# that is written back cluster by cluster.
work_in_disk() { # COMMAND...
    qemu-img convert -O raw store/web.qcow2 work.raw
    mkdir -p work
    mount -o loop work.raw work
    (cd work && "$@")
    umount work
    e2fsck -fn work.raw >/dev/null 2>&1 || fail "e2fsck of the work"
    "$QCTOOL" import store/web.qcow2 <work.raw
    rm work.raw
    check_clean store/web.qcow2
}

change_files() {
    rm -r src "noise 3"
    echo changed >>"noise 1"
    cp /bin/cat bin/ls
    echo new >new
}

ruin_files() {
    rm -rf ./*
    echo "all your files are gone" >README
}

# The file system in an image file holds exactly these files.
assert_files() { # FILE DIRECTORY
    mkdir -p look
    mount -o loop,ro "$1" look || fail "cannot mount $1"
    diff -r --no-dereference --exclude=lost+found "$2" look || fail "files in $1"
    umount look
}

assert_sound() { # FILE
    e2fsck -fn "$1" >e2fsck.out 2>&1 || fail "e2fsck -fn $1: $(cat e2fsck.out)"
}

make_files
make_image
mount_store store mnt
assert_sound mnt/web.qcow2/disk
assert_files mnt/web.qcow2/disk files
control_ok mnt/web.qcow2/control "take monday"

cp -a files tuesday-files
(cd tuesday-files && change_files)
work_in_disk change_files
control_ok mnt/web.qcow2/control "take tuesday"
work_in_disk ruin_files

# The past is there while the present is ruined.
assert_files mnt/web.qcow2/snapshots/monday files
assert_files mnt/web.qcow2/snapshots/tuesday tuesday-files
assert_sound mnt/web.qcow2/snapshots/monday
assert_sound mnt/web.qcow2/snapshots/tuesday
mkdir look2
mount -o loop,ro mnt/web.qcow2/disk look2
assert_eq "$(cat look2/README)" "all your files are gone"
# While that is mounted, its disk is not changed under it.
control_fails EBUSY mnt/web.qcow2/control "revert tuesday"
umount look2

# One file copied out, then all of them back.
mount -o loop,ro mnt/web.qcow2/snapshots/monday look2
assert_same "look2/noise 3" "files/noise 3"
umount look2
wait_for sh -c '! losetup -nO BACK-FILE | grep -q "$0"' "$TMP/mnt"
control_ok mnt/web.qcow2/control "revert tuesday"
assert_files mnt/web.qcow2/disk tuesday-files
assert_sound mnt/web.qcow2/disk
control_ok mnt/web.qcow2/control "revert monday" "delete tuesday"
assert_files mnt/web.qcow2/disk files
assert_sound mnt/web.qcow2/disk
assert_files mnt/web.qcow2/snapshots/monday files
check_clean store/web.qcow2 store/base.qcow2
assert_sound "$(qemu_raw store/web.qcow2)"
assert_files "$(qemu_raw store/web.qcow2)" files
unmount_store mnt
