"""Want of memory in the control group of a unit; needs a host with `controllers`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.hosts.host import Host

_ROOM: Final = 32 << 20
_HOG: Final = """
import pathlib, time
for tree in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
    group = pathlib.Path(tree + "{group}/cgroup.procs")
    if group.exists():
        group.write_text("0")
        break
hoard = b"x" * (256 << 20)
time.sleep(20)
"""


def squeeze(host: Host, unit: str) -> None:
    """Limit a running unit's memory to little more than it uses, and use up more than that in its control group."""
    used = int(host.show(unit, "MemoryCurrent")["MemoryCurrent"])
    host.systemctl("set-property", "--runtime", unit, f"MemoryMax={used + _ROOM}", "MemorySwapMax=0")
    group = host.show(unit, "ControlGroup")["ControlGroup"]
    host.run(shlex.join(["systemd-run", "--quiet", "--unit=hog", "python3", "-c", _HOG.format(group=group)]))


def release(host: Host, unit: str) -> None:
    """Undo `squeeze`."""
    host.systemctl("stop", "hog", check=False)
    host.systemctl("set-property", "--runtime", unit, "MemoryMax=infinity")
