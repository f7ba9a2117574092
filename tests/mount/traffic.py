#!/usr/bin/env python3
"""
Random traffic on a mounted store: traffic.py SECONDS SEED STORE MNT DAEMON-PID

Processes (traffic_worker.py) read, list, open, command, interrupt and replace images (traffic_store.py)
all at once. A wrong byte, an error that cannot be had from what others do, or a name that nobody took
ends it with status 1.

Prints how often each thing was done, and what the daemon held over time. The caller unmounts and
runs `traffic.py verify STORE` then: each image against the model (left in STORE.model).
"""
import json, multiprocessing, os, queue, sys, time

from traffic_store import prepare, verify
from traffic_worker import ROLES, Worker

LIMIT = 20  # times the seconds, on a machine that has much else to do
# What must have been done, whatever the machine, and at least how often; by how it begins.
WANTED = {
    "reads of snapshots": 100, "reads of disks": 50, "reads together": 5, "reads of what moves": 20, "short opens": 100, "listings": 50,
    "walks": 2, "texts": 50, "ls, find, du": 2, "take": 50, "delete": 30, "revert": 10, "rename": 1, "check": 1,
    "lines in one write": 1, "write": 1, "qemu take": 1, "interrupted": 10, "moves": 20,
    "races: delete EBUSY": 1, "races: delete ok": 1, "races: revert": 2,
}


def sample(pid):
    """What the daemon holds: KiB of memory, descriptors."""
    with open("/proc/%d/status" % pid) as status:
        rss = [int(line.split()[1]) for line in status if line.startswith("VmRSS")][0]
    return rss, len(os.listdir("/proc/%d/fd" % pid))


def merge(into, model):
    for image, part in model.items():
        whole = into.setdefault(image, {"disk": part["disk"], "snapshots": {}, "maybe": []})
        whole["snapshots"].update(part["snapshots"])
        whole["maybe"] += part.get("maybe", [])


def missing(counts):
    """What of WANTED was not done often enough."""
    for wanted, n in WANTED.items():
        done = sum(count for what, count in counts.items() if what.startswith(wanted))
        if done < n:
            yield "too little of '%s': %d" % (wanted, done)


class Watch:
    """Samples of the daemon, and what the workers tell, until all of them have ended."""

    def __init__(self, pid):
        self.pid, self.samples, self.counts, self.model, self.problems, self.ended = pid, [], {}, {}, [], 0

    def look(self, results):
        self.samples.append(sample(self.pid))
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            try:
                self.hear(*results.get(timeout=0.5))
            except queue.Empty:
                pass

    def hear(self, kind, *told):
        if kind == "counts":
            for what, n in told[0].items():
                self.counts[what] = self.counts.get(what, 0) + n
        else:
            self.ended += 1
            merge(self.model, told[0])
            self.problems += [told[1]] if told[1] else []


def traffic(seconds, seed, store, mnt, pid):
    """For so long, and until all that is wanted was done, but not for ever."""
    stop, results, watch = multiprocessing.Event(), multiprocessing.Queue(), Watch(pid)
    args = (stop, results, seed, store, mnt)
    workers = [multiprocessing.Process(target=Worker(args, *role).main, daemon=True) for role in ROLES]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    while watch.ended < len(workers):
        try:
            watch.look(results)
        except FileNotFoundError:
            sys.exit("the daemon is gone; %s" % "\n".join(watch.problems))
        passed = time.monotonic() - start
        if watch.problems or passed > LIMIT * seconds or (passed > seconds and not list(missing(watch.counts))):
            stop.set()
    for worker in workers:
        worker.join()
    for what in sorted(watch.counts):
        print("%8d %s" % (watch.counts[what], what))
    json.dump(watch.model, open(store + ".model", "w"))
    json.dump(watch.samples, open(store + ".samples", "w"))
    problems = watch.problems or list(missing(watch.counts))
    if problems:
        sys.exit("\n".join(problems))


def flat(store, margin_kib, margin_fds):
    """
    Whether the last third of the samples stays within a margin of the first. (The daemon knows
    every name that the kernel remembers, so names that never come again would count.)
    """
    samples = json.load(open(store + ".samples"))
    third = len(samples) // 3
    early, late = samples[:third], samples[-third:]
    for what, i, margin in ("KiB of memory", 0, margin_kib), ("descriptors", 1, margin_fds):
        before, after = max(s[i] for s in early), max(s[i] for s in late)
        print("%s: at most %d in the first third, %d in the last (%d samples)" % (what, before, after, len(samples)))
        if after > before + margin:
            sys.exit("%s grow: %d, then %d" % (what, before, after))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2])
    elif sys.argv[1] == "verify":
        verify(sys.argv[2])
    elif sys.argv[1] == "flat":
        flat(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        traffic(float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
