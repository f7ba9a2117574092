# Snapshots that hold the memory of a running VM, made by a real one with savevm.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-system-x86_64 python3

monitor() {
    python3 "$SRCDIR/tests/interop/qmp.py" "$TMP/qmp.sock" "$1"
}

# A command of the monitor that prints only errors.
quietly() {
    local text
    text=$(monitor "$1")
    assert_eq "$text" "" "monitor: $1"
}

start_vm() {
    qemu-system-x86_64 -S -display none -nodefaults -machine pc,accel=tcg -m 16 \
        -drive file=vm.qcow2,format=qcow2,if=virtio -qmp "unix:$TMP/qmp.sock,server,nowait" &
    VM=$!
    PIDS+=("$VM")
    wait_for monitor "info status"
}

stop_vm() {
    monitor quit >/dev/null || true
    wait "$VM" || true
    rm -f qmp.sock
}

registers() {
    monitor "info registers" | grep -E '^(E?R?AX|EIP|RIP|ES|CS|RSI)' || fail "no registers"
}

left_reset() {
    [ "$(registers)" != "$(cat reset)" ]
}

# savevm of a VM that has run a little, so that its registers are not those of a reset.
save() {
    monitor cont
    wait_for left_reset
    monitor stop
    quietly "savevm $1"
    registers >"$1.registers"
}

# The VM comes back exactly where it was.
assert_loads() {
    start_vm
    quietly "loadvm $1"
    registers >now
    assert_same now "$1.registers" "registers after loadvm $1"
    stop_vm
    check_clean vm.qcow2
}

assert_disk() { # VIEW FILE
    # shellcheck disable=SC2086
    "$QCTOOL" cat vm.qcow2 $1 >got
    assert_same got "$2" "disk '$1'"
}

vm_size() {
    qemu-img info --output=json vm.qcow2 | python3 -c 'import json, sys
print(next(s["vm-state-size"] for s in json.load(sys.stdin)["snapshots"] if s["name"] == sys.argv[1]))' "$1"
}

with_options() {
    rm -f vm.qcow2
    qemu-img create -q -f qcow2 "$@" vm.qcow2 4M
    scribble vm.qcow2 first 4096 1000000
    qemu-img convert -O raw vm.qcow2 first.raw
    start_vm
    registers >reset
    save vm1
    stop_vm
    scribble vm.qcow2 second 500000 900000
    qemu-img convert -O raw vm.qcow2 second.raw
    start_vm
    save vm2
    stop_vm

    local size
    size=$(vm_size vm1)
    [ "$size" -gt 100000 ] || fail "VM state of $size bytes"
    assert_disk snapshot=vm1 first.raw
    assert_disk snapshot=vm2 second.raw
    assert_disk "" second.raw
    check_clean vm.qcow2

    "$QCTOOL" take vm.qcow2 plain
    check_clean vm.qcow2
    assert_eq "$(vm_size plain)" 0 "our snapshot has no VM state"
    "$QCTOOL" revert vm.qcow2 vm1
    check_clean vm.qcow2
    assert_disk "" first.raw
    "$QCTOOL" rename vm.qcow2 vm1 renamed
    check_clean vm.qcow2
    assert_eq "$(vm_size renamed)" "$size" "VM state of a renamed snapshot"
    "$QCTOOL" rename vm.qcow2 renamed vm1
    assert_loads vm1
    assert_loads vm2
    "$QCTOOL" take vm.qcow2 on-top
    check_clean vm.qcow2
    "$QCTOOL" delete vm.qcow2 vm2
    check_clean vm.qcow2
    assert_disk "" second.raw # loadvm vm2 had reverted to it
    assert_disk snapshot=vm1 first.raw
    assert_loads vm1
    qemu-img snapshot -a plain vm.qcow2
    check_clean vm.qcow2
    assert_disk "" second.raw
    "$QCTOOL" delete vm.qcow2 vm1
    "$QCTOOL" delete vm.qcow2 on-top
    "$QCTOOL" delete vm.qcow2 plain
    check_clean vm.qcow2
    assert_disk "" second.raw
    assert_eq "$("$QCTOOL" list vm.qcow2)" "" "snapshots left"
}

with_options
with_options -o cluster_size=4K
with_options -o compat=0.10,cluster_size=512
with_options -o extended_l2=on,cluster_size=16K
with_options -o cluster_size=2M,refcount_bits=64
