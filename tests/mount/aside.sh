# Threads that read ahead keep off the processor of who does nothing but wait for answers
# (unit/ahead), but use all when that is of more use: when what is read has to be decoded and is
# asked for in large pieces, and when the kernel reads ahead by itself.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img
requires_fuse
ROUNDS=20

[ "$(nproc)" -gt 1 ] || skip "there is one processor only"

make_store() {
    mkdir store mnt
    seq 1 4200000 >data.raw # 32 MiB
    truncate -s 32M data.raw
    qemu-img convert -O qcow2 data.raw store/plain.qcow2
    qemu-img snapshot -c monday store/plain.qcow2
    qemu-img convert -c -O qcow2 data.raw store/packed.qcow2
}

# How many of the threads that read ahead may not use all of the daemon's processors.
restricted() {
    local task status n=0 all
    all=$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$WORKER/status")
    for task in "/proc/$WORKER/task/"*; do
        status=$(cat "$task/status" 2>/dev/null) || continue # it has ended
        [[ $status == Name:*([[:space:]])pool-snaptree$'\n'* ]] || continue
        [[ $status == *$'\n'Cpus_allowed_list:*([[:space:]])"$all"$'\n'* ]] || n=$((n + 1))
    done
    echo $n
}

# Read some times, each time what the kernel has not kept.
read_often() { # FILE BLOCK
    local i
    cmp data.raw "$1" || fail "what $1 holds"
    for i in $(seq $ROUNDS); do
        dd if="$1" iflag=nocache count=0 status=none
        dd if="$1" of=/dev/null bs="$2" status=none
    done
}

use_all() { # FILE BLOCK
    read_often mnt/plain.qcow2/disk 1M # which most often restricts them
    read_often "$@"
    assert_eq "$(restricted)" 0 "threads kept off a processor by reading $1"
    cmp data.raw "$1" || fail "what $1 holds now"
}

make_store
start_daemon
use_all mnt/packed.qcow2/disk 1M
use_all mnt/plain.qcow2/snapshots/monday 1M
stop_daemon
