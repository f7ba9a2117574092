# The command line: what it says, with which status, and that it leaves nothing behind.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img setpriv strace
requires_fuse

# Fails with a status and exactly one line that matches; nothing is mounted.
assert_refused() { # STATUS REGEX ARGUMENTS...
    local status=$1 regex=$2
    shift 2
    assert_fails "$SNAPTREE" "$@"
    assert_eq "$STATUS" "$status" "status of snaptree $*: $OUTPUT"
    assert_eq "$(wc -l <<<"$OUTPUT")" 1 "lines of the message: $OUTPUT"
    assert_match "$OUTPUT" "$regex" "message of snaptree $*"
    assert_eq "$(mounts_below_tmp)" "" "mounts after snaptree $*"
}

help_and_version() {
    "$SNAPTREE" --help >help || fail "--help: status $?"
    local word
    for word in STORE MOUNTPOINT -f backing deny store any ro allow_other --version; do
        grep -q -- "$word" help || fail "--help says nothing of $word"
    done
    "$SNAPTREE" -h >help2 || fail "-h: status $?"
    assert_same help help2 "-h and --help"
    assert_eq "$(sed -n 2p help)" "  snaptree [options] STORE MOUNTPOINT" "usage"
    assert_match "$("$SNAPTREE" --version)" "^snaptree [0-9]+\.[0-9]+" "--version"
    local option
    for option in --help --version; do
        STATUS=0
        "$SNAPTREE" $option >/dev/full 2>err || STATUS=$?
        assert_eq "$STATUS $(cat err)" "1 snaptree: cannot write to standard output" "$option >/dev/full"
    done
    [ ! -s <("$SNAPTREE" --help 2>&1 >/dev/null) ] || fail "--help writes to standard error"
}

wrong_options() {
    assert_refused 2 "frobnicate" --frobnicate store mnt
    assert_refused 2 "-Q" -Q store mnt
    assert_refused 2 "nonsense" -o nonsense store mnt
    assert_refused 2 "backing" -o backing=sometimes store mnt
    assert_refused 2 "." store
    assert_refused 2 "." 
    assert_refused 2 "extra" store mnt extra
    assert_refused 2 "unknown option -o store; what follows -o is taken" -o store mnt
    assert_refused 2 "option -o cache=0: a number from 1 to 1048576 is needed" -o cache=0 store mnt
    assert_refused 2 "fsname" -o fsname= store mnt
    assert_refused 2 "max_read" -o max_read=much store mnt
    assert_refused 2 "lazy" -o lazy store mnt
    local option
    for option in max_threads fsname sandbox comment; do
        assert_refused 2 "option -o $option needs a value" -o ro,$option store mnt
    done
}

# What other programs put into an fstab; and a limit of the size of requests.
accepted_options() {
    local options
    for options in noatime,nodiratime norelatime,nostrictatime,relatime,strictatime,diratime \
        lazytime,nolazytime,iversion,noiversion,mand,nomand,symfollow,nosymfollow,silent,loud \
        defaults,auto,noauto,user,nouser,users,nousers,owner,group,nofail,_netdev,comment=x,x-y=z,X-y \
        max_read=4096 max_read=65536 max_read=1048576; do
        mount_store "$TMP/store" "$TMP/mnt" -o "$options"
        cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "with $options"
        unmount_store "$TMP/mnt"
    done
    for options in $(sed -n '/^\.BR defaults/s/^\.BR//p' "$SRCDIR/docs/snaptree.1" | tr -d '",' | sed 's/x- \*/x-/; s/X- \*/X-/'); do
        "$SNAPTREE" --help | tr ', ' '\n\n' | grep -q "^${options}" || fail "--help says nothing of $options"
    done
}

# Some of its standard files are closed.
without_standard_files() {
    local closed
    for closed in '<&-' '>&-' '2>&-' '<&- >&-' '<&- >&- 2>&-'; do
        eval "\"$SNAPTREE\" \"$TMP/store\" \"$TMP/mnt\" $closed" || fail "with $closed: status $?"
        cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "with $closed"
        unmount_store "$TMP/mnt"
    done
}

# Of what its caller has open it keeps only the standard files: no lock, no end of a pipe, no
# private file.
inherits_nothing() {
    local mode pid
    : >private
    for mode in "" -f; do
        ( # shellcheck disable=SC2086
            exec 3<>private 200<private
            flock 3
            timeout 20 bash -c 'exec 7>&1; exec >/dev/null 2>&1; "$@" &' bash "$SNAPTREE" $mode "$TMP/store" "$TMP/mnt"
        ) | timeout 20 cat || fail "the pipe of a caller does not end ($mode)"
        wait_for mountpoint -q mnt
        ls mnt >/dev/null # once it serves, it has its worker
        flock -n private true || fail "a lock of the caller is held ($mode)"
        pid=$(daemon_of "$TMP/mnt") || fail "no daemon ($mode)"
        for pid in $pid $(worker_of "$pid"); do
            readlink "/proc/$pid/fd/"* >files
            ! grep -qF "$TMP/private" files || fail "a file of the caller is open ($mode): $(cat files)"
        done
        unmount_store "$TMP/mnt"
    done
}

# It ends before the tree is there, for want of memory: whoever called it gets to know.
not_served() {
    [ -z "${SANITIZED:-}" ] || return 0 # sanitizers take any amount of memory
    ulimit -S -v 100000
    assert_refused 1 "could not be served" -o cache=1048576 "$TMP/store" "$TMP/mnt"
    if [ "$(id -u)" = 0 ]; then # others need fusermount3, which is not traced; unmounting takes a while
        ! strace -D -f -qq -o trace -e trace=umount2 -e inject=umount2:delay_enter=300000 \
            "$SNAPTREE" -o cache=1048576 "$TMP/store" "$TMP/mnt" >refused 2>&1 || fail "served after all"
        assert_eq "$(mounts_below_tmp)" "" "mounts after a slow end"
        grep -q umount2 trace || fail "nothing was unmounted"
    fi
    # Also when it is gone before the one that was called looks, which takes long. (It looks twice.)
    ! timeout 60 strace -D -f -qq -o trace -e trace=newfstatat,stat -P "$TMP/mnt" -e inject=newfstatat,stat:delay_enter=1000000 \
        "$SNAPTREE" -o cache=1048576 "$TMP/store" "$TMP/mnt" >refused 2>&1 || fail "not served, and not said"
    ulimit -S -v unlimited
    ls mnt >/dev/null || fail "a dead mount"
}

wrong_places() {
    assert_refused 1 "^snaptree: store missing: No such file" missing mnt
    assert_refused 1 "store a-file: Not a directory" a-file mnt
    assert_refused 1 "missing" store missing
    assert_refused 1 "a-file" store a-file
    assert_refused 1 "store" store store
    mkdir store/inside
    assert_refused 1 "inside" store store/inside
    if [ "$(id -u)" = 0 ]; then
        mkdir "$TMP.bound" # not below $TMP, where nothing may be mounted after a refusal
        on_exit "umount -l '$TMP.bound' 2>/dev/null; rmdir '$TMP.bound'"
        mount --bind store "$TMP.bound"
        assert_refused 1 "inside" store "$TMP.bound/inside"
        assert_refused 1 "inside" store "$TMP.bound"
        umount "$TMP.bound"
    fi
    if [ "$(id -u)" = 0 ]; then # directories of one number, in two file systems
        mkdir tmpfs1 tmpfs2
        mount -t tmpfs none tmpfs1
        mount -t tmpfs none tmpfs2
        mkdir tmpfs2/in
        mount_store "$TMP/tmpfs1" "$TMP/tmpfs2/in"
        unmount_store "$TMP/tmpfs2/in"
        umount tmpfs1 tmpfs2
    fi
    if [ "$(id -u)" = 0 ]; then # a store that the caller may not enter
        mkdir -m 000 closed
        assert_fails setpriv --bounding-set=-dac_override,-dac_read_search "$SNAPTREE" closed mnt
        assert_match "$OUTPUT" "store closed: Permission denied"
        ! mountpoint -q mnt || fail "mounted although it failed"
    fi
    ln -s store/inside sly
    assert_refused 1 "." store sly
    assert_refused 1 "." . mnt
}

# Trees in each other's stores: the one that would close the circle is refused. (Both daemons would
# wait for each other, and could not be killed.)
in_a_circle() {
    local as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    mkdir -p circle/{a,b,"c, d"}/in circle/out
    mount_store "$TMP/circle/b" circle/a/in
    assert_fails timeout -s KILL 20 "$SNAPTREE" circle/a circle/b/in
    assert_eq "$OUTPUT" "snaptree: mountpoint circle/b/in lies inside the store $TMP/circle/a, by way of another tree that is mounted in there"
    if [ "$(id -u)" = 0 ]; then
        chmod 755 "$TMP"
        assert_fails timeout -s KILL 20 "${as_user[@]}" "$SNAPTREE" circle/a circle/b/in
        assert_match "$OUTPUT" "by way of another tree" "a circle of a user's with a tree of root's"
    fi
    mount_store "$TMP/circle/c, d" circle/b/in
    assert_fails timeout -s KILL 20 "$SNAPTREE" circle/a "circle/c, d/in"
    assert_match "$OUTPUT" "by way of another tree" "a longer circle"
    mkdir circle/bb # its path begins as the other's does
    mount_store "$TMP/circle/a" circle/bb
    timeout -s KILL 20 find circle/bb >/dev/null || fail "find: status $?"
    unmount_store circle/bb
    # What another user's mount says of itself is not believed, or anybody could keep root from mounting.
    if [ "$(id -u)" = 0 ]; then
        mkdir -p circle/user/{store,in}
        chown -R 65534 circle/user
        "${as_user[@]}" "$SNAPTREE" -o fsname=/ "$TMP/circle/user/store" "$TMP/circle/user/in" ||
            fail "a user's mount"
        mount_store "$TMP/circle/user" circle/out
        unmount_store circle/out
        umount circle/user/in
        # He believes his own.
        "${as_user[@]}" mkdir -p circle/user/{one,two}/in
        "${as_user[@]}" "$SNAPTREE" "$TMP/circle/user/two" "$TMP/circle/user/one/in" || fail "a user's mount"
        assert_fails timeout -s KILL 20 "${as_user[@]}" "$SNAPTREE" circle/user/one circle/user/two/in
        assert_match "$OUTPUT" "by way of another tree" "a circle of a user's own trees"
        umount circle/user/one/in
    fi
    # What calls itself a tree of what it lies in leads round; what is no tree leads nowhere.
    mkdir -p circle/round/{in,other}
    mount_store "$TMP/store" circle/round/in -o "fsname=$TMP/circle/round"
    mount_store "$TMP/store" circle/round/other -o subtype=sshfs,fsname=/
    mount_store "$TMP/circle/round" circle/out
    unmount_store circle/out
    umount circle/round/in circle/round/other
    unmount_store circle/b/in
    unmount_store circle/a/in
    rm -r circle
}

# When snaptree returns the tree is there; when it is unmounted the process is gone.
daemon_comes_and_goes() {
    local pid
    mount_store "$TMP/store" "$TMP/mnt"
    assert_eq "$(ls mnt/web.qcow2)" "$(printf '%s\n' control disk info.json layers snapshots)"
    pid=$(daemon_of "$TMP/mnt") || fail "no process serves the mount"
    assert_eq "$(readlink "/proc/$pid/cwd")" / "working directory of the daemon"
    assert_eq "$(ps -o tty=,sid= -p "$pid" | tr -s ' ')" "? $pid" "terminal and session of the daemon"
    assert_match "$(grep " $TMP/mnt " /proc/self/mountinfo)" " fuse\.snaptree " "type of the mount"
    if [ "$(id -u)" = 0 ]; then # whatever the process that serves says
        assert_match "$(grep " $TMP/mnt " /proc/self/mountinfo)" ",nosymfollow[ ,]" "links in the tree"
    fi
    if [ "$(id -u)" = 0 ]; then # who may set it
        cat mnt/web.qcow2/disk >/dev/null
        assert_eq "$(cat "/sys/class/bdi/$(mountpoint -d mnt)/read_ahead_kb")" 1024 "how far the kernel reads ahead"
    fi
    assert_fails "$SNAPTREE" store mnt
    assert_match "$OUTPUT" "^snaptree: mountpoint mnt: a FUSE file system is mounted there already"
    unmount_store "$TMP/mnt"
    wait_for test ! -d "/proc/$pid"
    rmdir mnt && mkdir mnt || fail "the mount point is not free"
}

# Of files it may have open as many as the system lets it.
open_files() {
    (
        ulimit -S -n 256
        mount_store "$TMP/store" "$TMP/mnt"
    )
    ls mnt >/dev/null
    assert_match "$(cat "/proc/$(worker_of "$(daemon_of "$TMP/mnt")")/limits")" "Max open files +$(ulimit -H -n) +$(ulimit -H -n) " "limits"
    unmount_store "$TMP/mnt"
}

# Whatever the mount table calls it.
mounted_already() {
    mount_store "$TMP/store" "$TMP/mnt" -o fsname=my-images,subtype=x
    assert_fails "$SNAPTREE" store mnt
    assert_eq "$OUTPUT" "snaptree: mountpoint mnt: a FUSE file system is mounted there already; unmount it first"
    assert_eq "$(grep -c " $TMP/mnt " /proc/self/mountinfo)" 1 "mounts at the mount point"
    unmount_store "$TMP/mnt"
}

# In the foreground it logs, and ends on a signal with the mount taken back.
in_the_foreground() {
    local pid signal
    for signal in TERM INT HUP; do
        # The shell lets its background processes ignore SIGINT.
        env --default-signal=INT setsid "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>log &
        pid=$!
        PIDS+=("$pid")
        wait_for mountpoint -q mnt
        kill -$signal "$pid"
        wait "$pid" || true
        ! mountpoint -q mnt || fail "mounted after SIG$signal"
        ls mnt >/dev/null || fail "a dead mount after SIG$signal"
    done
}

# Nobody reads its standard error: no reason to end, or to leave a dead mount.
unread() {
    ("$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>&1; echo $? >status) | true &
    wait_for mountpoint -q mnt
    ls mnt/web.qcow2 >/dev/null || fail "a dead mount"
    unmount_store "$TMP/mnt"
    wait
    assert_eq "$(cat status)" 0 "status of a daemon that nobody listened to"
}

# Signals in a row, to both of its processes: the mount is taken back all the same.
shot_at() {
    local i pid
    for i in 1 2 3 4 5 6 7 8; do
        mount_store "$TMP/store" "$TMP/mnt"
        pid=$(daemon_of "$TMP/mnt") || fail "no daemon"
        kill -TERM "$(worker_of "$pid")"
        sleep 0.00$i
        kill -TERM "$pid" 2>/dev/null || true
        kill -INT "$pid" 2>/dev/null || true
        wait_for is_gone "$pid"
        ! mountpoint -q mnt || fail "mounted after signals"
        ls mnt >/dev/null || fail "a dead mount after signals"
    done
}

# The one that was called waits for the tree, and can be told not to; the tree comes all the same.
impatient() {
    local status=0 tracer
    [ "$(id -u)" = 0 ] || return 0
    strace -D -f -qq -o trace -e trace=setsid -e inject=setsid:delay_enter=600000000 "$SNAPTREE" "$TMP/store" "$TMP/mnt" 2>/dev/null &
    wait_for mountpoint_of_table
    tracer=$(tracer_of $!)
    on_exit "kill -KILL $tracer 2>/dev/null"
    kill -TERM $!
    kill -KILL "$tracer" # which would wait for that one, as it waits for the tree
    wait $! || status=$?
    assert_eq "$status" 143 "status of who waited for the tree and was told to end"
    ls mnt/web.qcow2 >/dev/null || fail "no tree"
    unmount_store "$TMP/mnt"
}

# A second signal while the tree is unmounted, which takes long.
signalled_twice() {
    local pid tracer
    [ "$(id -u)" = 0 ] || return 0
    is_unmounting() { # umount2 has the number 166 on x86-64, and 39 on most others
        grep -qE '^(166|39) ' "/proc/$pid/task/"*/syscall
    }
    ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -D -f -qq -o trace -e trace=umount2 \
        -e inject=umount2:delay_enter=600000000 "$SNAPTREE" -f -o sandbox=off \
        "$TMP/store" "$TMP/mnt" 2>log &
    pid=$!
    PIDS+=("$pid")
    wait_for mountpoint_of_table
    ls mnt >/dev/null
    tracer=$(tracer_of "$pid")
    on_exit "kill -KILL $tracer 2>/dev/null"
    kill -TERM "$pid"
    wait_for is_unmounting
    kill -TERM "$pid"
    kill -KILL "$tracer"
    wait "$pid" || fail "status $? after two signals: $(cat log)"
    ! mountpoint_of_table || fail "mounted after two signals"
}

mountpoint_of_table() {
    grep -qF " $TMP/mnt " /proc/self/mountinfo
}

# What becomes of commands is said to the system's log, by a socket that the process which serves cannot
# have. (A /dev of its own stands for the system's.)
system_log() {
    [ "$(id -u)" = 0 ] || return 0
    # shellcheck disable=SC2016
    timeout 60 "${OWN_MOUNTS[@]}" bash -c '
        set -e
        mount -t tmpfs none /dev
        mknod /dev/null c 1 3
        mknod -m 666 /dev/fuse c 10 229
        python3 -c "import socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(\"/dev/log\")
open(\"ready\", \"w\").close()
while True:
    line = log.recv(4096)
    print(line, flush=True)
    if b\"take\" in line:
        break" >said &
        until [ -e ready ]; do sleep 0.05; done
        "$SNAPTREE" "$TMP/store" "$TMP/mnt"
        echo "take logged" >mnt/web.qcow2/control
        echo "delete logged" >mnt/web.qcow2/control
        wait $!
        umount mnt' || fail "no line in the system's log: $(cat said)"
    assert_match "$(cat said)" "snaptree\\[[0-9]+\\]: ${SANITIZED:+not }confined: .*snaptree\\[[0-9]+\\]: take web.qcow2 logged: ok" "the system's log"
}

options_work() {
    mount_store "$TMP/store" "$TMP/mnt" -o ro,fsname=my-images
    assert_match "$(grep " $TMP/mnt " /proc/self/mountinfo)" " ro,.* fuse\.snaptree my-images ro" "mount options"
    unmount_store mnt
    # Options behind the arguments, as mount(8) gives them.
    "$SNAPTREE" "$TMP/store" "$TMP/mnt" -o rw,nosuid,nodev || fail "options at the end"
    assert_match "$(grep " $TMP/mnt " /proc/self/mountinfo)" "nosuid,nodev" "mount options"
    umount mnt 2>/dev/null || unmount_store mnt
    local policy
    for policy in deny store any; do
        mount_store store mnt -o backing=$policy
        case $policy in
            deny) [ -s mnt/over.qcow2/error ] && [ ! -e mnt/over.qcow2/disk ] || fail "backing=deny" ;;
            *) cmp mnt/over.qcow2/disk mnt/web.qcow2/disk || fail "backing=$policy" ;;
        esac
        case $policy in
            any) cmp mnt/far.qcow2/disk "$(qemu_raw outside.qcow2)" || fail "backing=any" ;;
            *) [ -s mnt/far.qcow2/error ] && [ ! -e mnt/far.qcow2/disk ] || fail "backing=$policy and outside" ;;
        esac
        unmount_store mnt
    done
}

# Names are bytes, in any locale; a message about them is one line all the same.
in_any_encoding() {
    local name locale
    for locale in C C.UTF-8; do
        for name in $'B\xc3\xbcro' $'B\xfcro'; do
            mkdir "mnt/$name"
            cp -r store "$name"
            LC_ALL=$locale "$SNAPTREE" -o "fsname=$name" "$TMP/$name" "$TMP/mnt/$name" || fail "store $name in $locale"
            grep -qaF " fuse.snaptree $name " /proc/self/mountinfo || fail "fsname=$name in $locale"
            cmp "mnt/$name/web.qcow2/disk" "$(qemu_raw store/web.qcow2)" || fail "disk in $name"
            LC_ALL=$locale assert_fails "$SNAPTREE" "$name" "mnt/$name"
            assert_match "$OUTPUT" "mounted there already" "mounting twice on $name in $locale"
            unmount_store "$TMP/mnt/$name"
            rm -r "${name:?}" "mnt/$name"
            assert_refused 2 "unknown option -o frob" -o "frob$name" store mnt
        done
    done
}

# The store's path is what the mount table calls the tree, whatever is in it.
odd_store() {
    local name='a,b\c d'
    cp -r store "$name"
    mount_store "$TMP/$name" "$TMP/mnt"
    assert_eq "$(printf %b "$(awk -v mnt="$TMP/mnt" '$5 == mnt { print $(NF - 1) }' /proc/self/mountinfo)")" "$TMP/$name" "source"
    unmount_store "$TMP/mnt"
    rm -r "$name"
}

# Of what the kernel offers: reads beside each other, and requests as large and as many as we serve;
# but not that it asks for a file's attributes before each read from its page cache, nor READDIRPLUS,
# nor that it writes later, nor look-ups of "..".
asked_of_the_kernel() {
    local flags
    start_daemon -d
    fusermount3 -u mnt
    wait "$DAEMON" || fail "status $? with -d"
    grep -A6 '^snaptree:    INIT: ' daemon.log >asked || fail "-d says nothing of the first answer"
    flags=$(sed -n 's/.* flags=//p' asked)
    assert_eq $((flags & 0x8001)) $((0x8001)) "what is wanted of $flags"
    assert_eq $((flags & 0x17010)) 0 "what is not wanted of $flags"
    assert_eq "$(sed -n 's/.* \(max_[wb][a-z]*=\|congestion\)/\1/p' asked | tr '\n' ' ')" \
        "max_write=0x00100000 max_background=64 congestion_threshold=48 "
}

# The options of the mount, as the kernel has them.
mount_options() {
    awk -v mnt="$TMP/mnt" '$5 == mnt { print $6 }' /proc/self/mountinfo
}

# Neither by hand, nor with the options that mount.fuse3 adds for root.
no_set_user_id() {
    local options
    for options in rw suid,dev rw,exec,dev,suid nosuid,nodev; do
        mount_store "$TMP/store" "$TMP/mnt" -o "$options"
        assert_match "$(mount_options)" "nosuid,nodev" "a mount with -o $options"
        unmount_store "$TMP/mnt"
    done
}

# The line for fstab in the documents: every option is accepted, and a remount keeps what protects
# from a process that serves and was taken over.
line_of_fstab() {
    local page options
    [ "$(id -u)" = 0 ] && command -v mount.fuse3 >/dev/null || return 0
    mkdir -p bin
    ln -sf "$SNAPTREE" bin/snaptree
    for page in GUIDE.md snaptree.1; do
        options=$(awk '$1 == "/srv/images" && $3 == "fuse.snaptree" { print $4 }' "$SRCDIR/docs/$page")
        echo "$TMP/store $TMP/mnt fuse.snaptree $options 0 0" >fstab
        "$SNAPTREE" "$TMP/store" "$TMP/mnt" -o "$options" || fail "by hand, with the options of $page"
        umount mnt
        # as mount(8) calls it, which looks for snaptree in the directories of the system alone
        PATH="$TMP/bin:$PATH" mount.fuse3 "$TMP/store" "$TMP/mnt" -o "rw,$options" -t fuse.snaptree ||
            fail "by mount.fuse3, with the options of $page"
        assert_match "$(mount_options)" "^rw,nosuid,nodev,.*nosymfollow" "as $page has it"
        mount -T fstab -i -o remount,bind,ro "$TMP/mnt" || fail "cannot remount"
        assert_match "$(mount_options)" "^ro,nosuid,nodev,.*nosymfollow" "as $page has it, remounted"
        mount -T fstab -i -o remount,bind,rw "$TMP/mnt" || fail "cannot remount"
        assert_match "$(mount_options)" "^rw,nosuid,nodev,.*nosymfollow" "as $page has it, remounted again"
        umount mnt
    done
}

# As fstab does it: mount -t fuse.snaptree needs the program in a directory where it is looked for.
by_mount() {
    [ "$(id -u)" = 0 ] && command -v mount.fuse3 >/dev/null || return 0
    mkdir -p bin
    ln -sf "$SNAPTREE" bin/snaptree
    PATH="$TMP/bin:$PATH" mount -t fuse.snaptree "$TMP/store" "$TMP/mnt" -o ro,allow_other ||
        PATH="$TMP/bin:$PATH" mount.fuse3 "snaptree#$TMP/store" "$TMP/mnt" -o ro,allow_other ||
        fail "mount -t fuse.snaptree"
    cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "disk of a mount by mount(8)"
    umount mnt
}

mkdir store mnt
: >a-file
qemu-img create -q -f qcow2 store/web.qcow2 1M
scribble store/web.qcow2 cli 1000 500000
cp store/web.qcow2 outside.qcow2
(cd store && qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 over.qcow2)
(cd store && qemu-img create -q -f qcow2 -b ../outside.qcow2 -F qcow2 far.qcow2)
help_and_version
wrong_options
accepted_options
without_standard_files
inherits_nothing
not_served
wrong_places
in_a_circle
daemon_comes_and_goes
open_files
mounted_already
in_the_foreground
unread
shot_at
impatient
signalled_twice
system_log
options_work
in_any_encoding
odd_store
asked_of_the_kernel
no_set_user_id
line_of_fstab
by_mount
