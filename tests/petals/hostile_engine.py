"""An engine that was taken over: in the place of serving it tries to get out, and prints how that went.

    python -m tests.petals.hostile_engine '{"targets": {…}, "abi": N, "seccomp": false, "serve": true}'

It is `python -m plumised.petals` until that would serve. With `abi` the kernel is taken for one that has this ABI of
Landlock (0: none), with `seccomp` false for one without filters of system calls; with `serve` it serves after all, with
`result` it writes to that file instead of standard output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumised.petals import __main__ as engine
from plumised.petals.sandbox import landlock, seccomp
from plumised.petals.sandbox.calls import SandboxError
from tests.petals.escapes import MARK, Targets, attempts, circumstances

if TYPE_CHECKING:
    from collections.abc import Callable


def refusing(message: str) -> Callable[..., Any]:
    """What a kernel without something does when it is asked for it."""

    def refuse(*_arguments: object) -> None:
        raise SandboxError(message)

    return refuse


def try_to_get_out(*_arguments: object) -> None:
    """In the place of serving."""
    targets = Targets(**{"daemon": os.getppid(), **plan["targets"]})
    # Before the attempts, which open things.
    given = circumstances()
    found = json.dumps({"attempts": attempts(targets), "circumstances": given})
    if (result := plan.get("result")) is None:
        sys.stdout.write(f"{MARK}{found}\n")
        return
    draft = Path(result).with_suffix(".draft")
    draft.write_text(found)
    draft.rename(result)


plan = json.loads(sys.argv.pop(1))
if (abi := plan.get("abi")) == 0:
    landlock.kernel_abi = refusing("the kernel has no Landlock")
elif abi is not None:
    landlock.kernel_abi = lambda: abi
if not plan.get("seccomp", True):
    seccomp.install = refusing("the kernel has no seccomp")
if not plan.get("serve", False):
    setattr(engine, "_serve", try_to_get_out)  # noqa: B010 -- of another type, on purpose
sys.exit(engine.main())
