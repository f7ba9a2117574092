# What user.sh runs as an ordinary user: user-story.bash FUNCTIONS
# shellcheck source=/dev/null
. "$1"

[ "$(id -u)" != 0 ] || fail "this is to run as an ordinary user"

mkdir store
qemu-img create -q -f qcow2 store/base.qcow2 1M
scribble store/base.qcow2 base 0 1048576
(cd store && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 web.qcow2 2M)
scribble store/web.qcow2 web 5000 700000
qemu-img convert -O raw store/web.qcow2 before.raw
truncate -s 1M store/disk.raw

mount_store store mnt
PID=$(daemon_of mnt) || fail "no daemon"
assert_match "$(grep " $TMP/mnt " /proc/self/mountinfo)" "fuse\.snaptree .*user_id=$(id -u)" "the mount is the user's"
cmp mnt/web.qcow2/disk before.raw || fail "disk"
cmp mnt/web.qcow2/layers/1-base.qcow2 "$(qemu_raw store/base.qcow2)" || fail "layer 1"
control_ok mnt/web.qcow2/control "take before"
check_clean store/web.qcow2
scribble store/web.qcow2 later 0 2000000
cmp mnt/web.qcow2/snapshots/before before.raw || fail "snapshot"
cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "changed disk"
control_ok mnt/control "revert web.qcow2 before"
cmp mnt/web.qcow2/disk before.raw || fail "reverted disk"
control_ok mnt/web.qcow2/control "rename before 'a new name'" "delete 'a new name'"
check_clean store/web.qcow2
control_fails EOPNOTSUPP mnt/disk.raw/control "take s"

# Of a file that is not the user's to write, or to read.
cp store/web.qcow2 store/kept.qcow2
chmod 400 store/kept.qcow2
cmp mnt/kept.qcow2/disk before.raw || fail "a read-only image"
assert_fails bash -c "echo 'take s' >mnt/kept.qcow2/control"
assert_match "$OUTPUT" "$(message_of EACCES)" "a command on a read-only image"
assert_fails bash -c "echo 'take kept.qcow2 s' >mnt/control"
assert_match "$OUTPUT" "$(message_of EACCES)" "a command on a read-only image"
chmod 000 store/kept.qcow2
ls -l mnt >/dev/null || fail "ls with an image that may not be read"
assert_fails cat mnt/kept.qcow2/disk
cmp mnt/web.qcow2/disk before.raw || fail "the other image"

# Beneath a link to a directory of the store: the user may, unless the directory itself is shut.
mkdir -p store/templates store/by
qemu-img create -q -f qcow2 store/templates/golden.qcow2 1M
scribble store/templates/golden.qcow2 golden 0 1000000
ln -s templates store/real
ln -s ../real store/by/way
(cd store && qemu-img create -q -f qcow2 -b real/golden.qcow2 -F qcow2 vm.qcow2 &&
    qemu-img create -q -f qcow2 -b by/way/golden.qcow2 -F qcow2 vm2.qcow2)
cmp mnt/vm.qcow2/disk "$(qemu_raw store/vm.qcow2)" || fail "a disk over a linked directory"
cmp mnt/vm2.qcow2/disk "$(qemu_raw store/vm2.qcow2)" || fail "a disk over a linked directory in another"
cmp mnt/vm.qcow2/layers/1-golden.qcow2 mnt/templates/golden.qcow2/disk || fail "the layer in the linked directory"

unmount_store mnt
wait_for test ! -d "/proc/$PID"

# What a killed daemon leaves is the user's to take away, too: fusermount3 does it.
mount_store store mnt
PID=$(daemon_of mnt) || fail "no daemon"
ls mnt >/dev/null
kill -KILL "$PID" "$(worker_of "$PID")"
wait_for is_gone "$PID"
"$SNAPTREE" store mnt || fail "cannot mount over a dead mount point"
ls mnt/web.qcow2 >/dev/null || fail "the tree over a dead mount point"
assert_eq "$(grep -c " $TMP/mnt " /proc/self/mountinfo)" 1 "mounts at the mount point"
unmount_store mnt
