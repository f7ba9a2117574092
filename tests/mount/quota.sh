# A user's quota is used up: a command says EDQUOT and changes nothing.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io mkfs.btrfs btrfs setpriv losetup
requires_root # for the quota; the tree is an ordinary user's
requires_fuse

USER_ID=65534
MODE=$(stat -c %a /dev/fuse)
on_exit "chmod $MODE /dev/fuse"
chmod 666 /dev/fuse

truncate -s 256M volume
mkfs.btrfs -q volume >/dev/null
mkdir fs mnt
mount -o loop volume fs
btrfs -q quota enable fs
btrfs -q subvolume create fs/home
btrfs -q qgroup limit 8M fs/home
chown $USER_ID fs/home mnt

chmod 755 "$TMP"
cp "$SNAPTREE" snaptree
as_user() {
    setpriv --reuid=$USER_ID --regid=$USER_ID --clear-groups "$@"
}

as_user mkdir fs/home/store
as_user qemu-img create -q -f qcow2 fs/home/store/web.qcow2 64M
as_user qemu-io -c 'write -q -P 7 0 2M' fs/home/store/web.qcow2
sync -f fs
as_user dd if=/dev/urandom of=fs/home/filler bs=256K oflag=dsync status=none 2>/dev/null && fail "there is no quota"
BEFORE=$(sha256sum <fs/home/store/web.qcow2)

as_user "$TMP/snaptree" "$TMP/fs/home/store" "$TMP/mnt"
as_user bash -c 'echo "take s" >mnt/web.qcow2/control' 2>message && fail "a snapshot without room"
assert_match "$(cat message)" "write error: $(message_of EDQUOT)"
assert_match "$(as_user tail -n1 mnt/web.qcow2/control)" "^[0-9TZ:-]+ EDQUOT take s: .+"
assert_eq "$(sha256sum <fs/home/store/web.qcow2)" "$BEFORE" "the image"
check_clean fs/home/store/web.qcow2

as_user rm fs/home/filler
as_user bash -c 'echo "take s" >mnt/web.qcow2/control' || fail "with room it works"
check_clean fs/home/store/web.qcow2
as_user cmp mnt/web.qcow2/snapshots/s mnt/web.qcow2/disk || fail "the snapshot"
unmount_store "$TMP/mnt"
umount fs
