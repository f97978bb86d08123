"""Tells the engine's processes from everybody else's, for those who must not let them in.

A session can be left and an environment wiped. But the daemon is the child subreaper of all that it starts, so that it
is among the ancestors of every process of its engine, whatever that does (PR_SET_CHILD_SUBREAPER of prctl(2)). What an
engine of an earlier, killed daemon left behind has other ancestors; its environment gives it away until it is ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from plumised.engine.processes import INCARNATION_VARIABLE, environment_of, read_process

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE: Final = 256
"""Ancestors that are looked at. A person's command has about ten."""

_INIT: Final = 1
_MARK: Final = f"{INCARNATION_VARIABLE}=".encode()


@dataclass(frozen=True, slots=True)
class Seen:
    """What matters of a process.

    Attributes:
        parent: its parent's pid; 0 for one outside of this pid namespace.
        session: its session's id.
        start_time: clock ticks from boot to its start.
        marked: whether an engine's environment is its own.
    """

    parent: int
    session: int
    start_time: int
    marked: bool = False


class Unseen(Enum):
    """Why nothing is known of a process."""

    GONE = "it has ended"
    FOREIGN = "it is another user's, and /proc shows those of this user only"
    HIDING = "it is this user's, and keeps out of sight"


Sight = Seen | Unseen


def look(pid: int) -> Sight:
    """What is to be seen of a process at this moment."""
    try:
        found = read_process(pid)
    except PermissionError:
        found = None
    if found is not None:
        marked = any(each.startswith(_MARK) for each in environment_of(pid))
        return Seen(found.parent, found.session, found.id.start_time, marked)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Unseen.GONE
    except PermissionError:
        return Unseen.FOREIGN
    return Unseen.HIDING


def is_of_engine(pid: int, daemon: int, look: Callable[[int], Sight] = look) -> bool:
    """Whether a process belongs to an engine. In doubt it does.

    Args:
        pid: of the process; 0 for one outside of this pid namespace, where no engine is.
        daemon: pid of the daemon, which is none itself.
        look: shows a process.
    """
    if pid in {0, daemon}:
        return False
    seen = look(pid)
    if not isinstance(seen, Seen):
        return seen is not Unseen.FOREIGN
    leader = look(seen.session) if seen.session else Unseen.GONE
    marked = seen.marked or (isinstance(leader, Seen) and leader.marked)
    return marked or _descends(pid, seen, daemon, look)


def _descends(pid: int, seen: Seen, daemon: int, look: Callable[[int], Sight]) -> bool:
    """Whether the line of ancestors leads to the daemon or to an engine, or does not come to an end."""
    for _ in range(LONGEST_LINE):
        if seen.parent == daemon or seen.parent <= _INIT:
            return seen.parent == daemon
        parent = look(seen.parent)
        if isinstance(parent, Seen) and parent.start_time <= seen.start_time:
            if parent.marked:
                return True
            pid, seen = seen.parent, parent
        elif parent in {Unseen.FOREIGN, Unseen.HIDING}:
            return parent is Unseen.HIDING
        else:
            # The parent has ended, its pid may be another's by now, and somebody has adopted the child.
            again = look(pid)
            if not isinstance(again, Seen):
                return True
            seen = again
    return True
