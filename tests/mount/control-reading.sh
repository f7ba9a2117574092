# What one reads in a control file: the commands that there are, and the results of those that were run.
. "${SRCDIR:?run by ctest}/tests/mount/control.bash"

reading() {
    local verb
    for verb in take revert delete rename; do
        grep -q "^#.*$verb" $C || fail "the comments do not tell of $verb"
        grep -q "^#.*$verb" mnt/control || fail "the comments of the store's control do not tell of $verb"
    done
    ! sed '/^#/d' mnt/quiet.qcow2/control | grep -q . || fail "results where no command ran"
    local before
    before=$(date -u +%FT%TZ)
    control_ok $C "take x"
    control_fails EEXIST $C "take x"
    control_ok $C "delete x"
    tail -n3 $C >last
    assert_match "$(sed -n 1p last)" "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z ok take x$"
    assert_match "$(sed -n 2p last)" "Z EEXIST take x: .+"
    assert_match "$(sed -n 3p last)" "Z ok delete x$"
    (echo "$before" && cut -d' ' -f1 last && date -u +%FT%TZ) >clock
    assert_same clock <(sort clock) "times of the results, which are to lie between the first and the last"
    cat $C >whole && assert_same whole <(dd if=$C bs=7 status=none) "reading in small pieces"
}

# On the descriptor that wrote: the result of that write, a line per command.
reading_back() {
    exec 3<>$C
    env printf 'take p\ntake q\n' >&3
    cat <&3 >back
    exec 3<&-
    assert_eq "$(wc -l <back)" 2 "lines read back: $(cat back)"
    assert_match "$(sed -n 1p back)" "ok take p$"
    assert_match "$(sed -n 2p back)" "ok take q$"
    python3 - $C <<'END' || fail "reading back"
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for line, wanted in ((b"take r\n", b"ok take r\n"), (b"take r\n", b"EEXIST take r: "), (b"delete r", b"ok delete r\n")):
    try:
        assert os.write(fd, line) == len(line)
    except OSError as error:
        assert error.errno == errno.EEXIST, error
    text = os.pread(fd, 4096, 0)
    assert wanted in text and text.count(b"\n") == 1, (line, text)

# In order, as a shell does it; then back, behind what was written and before.
fd = os.open(sys.argv[1], os.O_RDWR)
for line in b"take r\n", b"delete r\n":
    os.write(fd, line)
    at = os.lseek(fd, 0, os.SEEK_CUR)
    text = os.read(fd, 4096)
    assert b"ok " + line in text and text.count(b"\n") == 1, (line, text)
    for back in at, 0:
        os.lseek(fd, back, os.SEEK_SET)
        assert os.read(fd, 4096) == text, "back to %d" % back

# Who has written nothing gets what is new when he begins anew.
fd = os.open(sys.argv[1], os.O_RDONLY)
assert b"ok take t\n" not in os.read(fd, 65536)
os.write(os.open(sys.argv[1], os.O_WRONLY), b"take t\ndelete t\n")
assert b"ok take t\n" in os.pread(fd, 65536, 0), "a second reading from the beginning"
END
    control_ok $C "delete p" "delete q"
}

# Who reads a descriptor while its write runs reads the result all the same afterwards. The write
# runs for as long as there is the snapshot that it takes first and deletes last.
read_while_it_runs() {
    python3 - $C mnt/web.qcow2/snapshots/meanwhile <<'END' || fail "the result, read after somebody read meanwhile"
import os, sys, threading
control, snapshot = sys.argv[1:]
LINES = b"take meanwhile\n" + b"check\n" * 300 + b"delete meanwhile\n"
fd = os.open(control, os.O_RDWR)
meanwhile = False
while not meanwhile:
    end = os.lseek(fd, 0, os.SEEK_CUR) + len(LINES)
    writer = threading.Thread(target=os.write, args=(fd, LINES))
    writer.start()
    while writer.is_alive() and not os.path.exists(snapshot):
        pass
    os.pread(fd, 4096, 0)
    meanwhile = os.path.exists(snapshot)
    writer.join()
first = os.pread(fd, 40, end).decode()
assert first[:2] == "20" and " ok take meanwhile\n" in first, first
END
}

# The image is gone: who has its files open still reads them, as programs do that ask for the size
# first; so a script prints why its command failed.
image_gone() {
    new_image store/gone.qcow2
    exec 3<>mnt/gone.qcow2/control 4<mnt/gone.qcow2/info.json
    cp mnt/gone.qcow2/info.json info
    rm store/gone.qcow2
    ! echo 'take x' 2>/dev/null >&3 || fail "a command on an image that is gone"
    cat <&3 >back || fail "the result cannot be read"
    assert_match "$(cat back)" "Z ENOENT take x: .*gone.qcow2$"
    assert_eq "$(stat -L -c %s /dev/fd/4)" "$(stat -c %s info)" "size of info.json"
    cat <&4 >back || fail "info.json cannot be read"
    assert_same back info "info.json"
    exec 3<&- 4<&-
}

mkdir store
new_image store/web.qcow2
new_image store/quiet.qcow2
mount_store "$TMP/store" mnt
reading
reading_back
read_while_it_runs
image_gone
unmount_store mnt
