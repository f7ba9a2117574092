"""Compare two outputs of qemu-img info: compare_info.py THEIRS OURS IMAGE

Every key of theirs must be in ours with the same value. How the file is named depends on the
directory that qemu-img was started in; there the file's own name decides.
"""

import json
import os
import sys

NAMES = ("filename", "full-backing-filename")


def compare(theirs, ours, path):
    """Yield a line for each difference."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            where = "%s.%s" % (path, key)
            if key not in ours:
                yield "%s is missing (%r)" % (where, value)
            elif key in NAMES:
                if os.path.basename(str(value)) != os.path.basename(str(ours[key])):
                    yield "%s: %r instead of %r" % (where, ours[key], value)
            else:
                yield from compare(value, ours[key], where)
        for key in sorted(set(ours) - set(theirs) - {"snaptree"}):
            yield "%s.%s is not a key of QEMU's (%r)" % (path, key, ours[key])
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, (a, b) in enumerate(zip(theirs, ours)):
            yield from compare(a, b, "%s[%d]" % (path, i))
    elif theirs != ours or isinstance(theirs, bool) != isinstance(ours, bool):
        yield "%s: %r instead of %r" % (path, ours, theirs)


with open(sys.argv[1], encoding="utf-8") as a, open(sys.argv[2], encoding="utf-8") as b:
    differences = list(compare(json.load(a), json.load(b), sys.argv[3]))
print("\n".join(differences), end="\n" if differences else "")
sys.exit(1 if differences else 0)
