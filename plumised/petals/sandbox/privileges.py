"""Takes from this process, and from all that it starts, privileges that nobody here needs."""

from __future__ import annotations

from typing import Final

from plumised.petals.sandbox.calls import keep_capabilities, prctl

_PR_SET_NO_NEW_PRIVS: Final = 38
"""<linux/prctl.h>"""

_KEPT: Final = (
    1 << 1  # CAP_DAC_OVERRIDE: files of other users, as far as they are granted
    | 1 << 3  # CAP_FOWNER: their modes, which the hub's client sets
    | 1 << 10  # CAP_NET_BIND_SERVICE: ports below 1024
    | 1 << 14  # CAP_IPC_LOCK: memory that a GPU reads
)
"""The capabilities (<linux/capability.h>) that an engine may have, should it be started with them: by root."""


def forbid_new_privileges() -> None:
    """Have no program that is started gain privileges, as set-user-ID ones do (no_new_privs of prctl(2)).

    Raises:
        SandboxError: the kernel refuses.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up what root can do beyond using files and ports.

    Raises:
        SandboxError: the kernel refuses.
    """
    keep_capabilities(_KEPT)
