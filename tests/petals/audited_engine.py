"""An engine whose processes write down where they turn to: otherwise `python -m plumised.petals`.

    python -m tests.petals.audited_engine FILE

One JSON object a line: {"event", "pid", "what": […]} for every name that is looked up, every connection and datagram,
every URL, and every program that is started. Forked children inherit the hook; programs that are started do not.
"""

import json
import os
import runpy
import sys

EVENTS = {
    "socket.connect": lambda arguments: [int(arguments[0].family), repr(arguments[1])],
    "socket.sendto": lambda arguments: [int(arguments[0].family), repr(arguments[1])],
    "socket.sendmsg": lambda arguments: [int(arguments[0].family), repr(arguments[1])],
    "socket.bind": lambda arguments: [int(arguments[0].family), repr(arguments[1])],
    "socket.getaddrinfo": lambda arguments: [0, repr(arguments[0])],
    "socket.gethostbyname": lambda arguments: [0, repr(arguments[0])],
    "socket.gethostbyaddr": lambda arguments: [0, repr(arguments[0])],
    "urllib.Request": lambda arguments: [0, repr(arguments[0])],
    "http.client.connect": lambda arguments: [0, repr(arguments[1:])],
    "subprocess.Popen": lambda arguments: [0, str(arguments[0])],
    "os.posix_spawn": lambda arguments: [0, str(arguments[0])],
    "os.exec": lambda arguments: [0, str(arguments[0])],
    "os.system": lambda arguments: [0, str(arguments[0])],
}
output = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def record(event: str, arguments: tuple[object, ...]) -> None:
    """Take one audit event."""
    if (describe := EVENTS.get(event)) is not None:
        family, what = describe(arguments)
        line = json.dumps({"event": event, "pid": os.getpid(), "family": family, "what": what})
        os.write(output, line.encode() + b"\n")


sys.addaudithook(record)
runpy.run_module("plumised.petals", run_name="__main__", alter_sys=True)
