"""plumised, noting at each file that it opens whether its memory is closed: one line `<dumpable> <path>` each.

python -m tests.integration.opens_noted RECORD VERB …
"""

from __future__ import annotations

import ctypes
import os
import sys

from plumised.cli.main import main

_PR_GET_DUMPABLE = 3


def note_opens(record: str) -> None:
    """Append to the file `record` from here on."""
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    prctl = ctypes.CDLL(None).prctl

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            os.write(descriptor, f"{prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)} {arguments[0]}\n".encode())

    sys.addaudithook(note)


if __name__ == "__main__":
    note_opens(sys.argv.pop(1))
    sys.exit(main())
