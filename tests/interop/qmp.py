"""Say one line to the monitor of a running QEMU and print the answer: qmp.py SOCKET LINE

With an argument more, a JSON object, LINE is a command of QMP, and the object is its arguments.
"""

import json
import socket
import sys

with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    stream = sock.makefile("rw")

    def ask(command, **arguments):
        stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        stream.flush()
        for line in stream:
            answer = json.loads(line)
            if "return" in answer or "error" in answer:
                return answer
        sys.exit("QEMU hung up")

    stream.readline()  # greeting
    ask("qmp_capabilities")
    if len(sys.argv) > 3:
        reply = ask(sys.argv[2], **json.loads(sys.argv[3]))
    else:
        reply = ask("human-monitor-command", **{"command-line": sys.argv[2]})
    if "error" in reply:
        sys.exit(reply["error"]["desc"])
    print(reply["return"] or "", end="")
