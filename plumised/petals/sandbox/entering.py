"""Closes the sandbox around this process, layer by layer, and says what is in force."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.ipc.messages import Layer, LayerName, Sandbox
from plumised.petals.failures import EngineError
from plumised.petals.sandbox import landlock, seccomp
from plumised.petals.sandbox.calls import SandboxError
from plumised.petals.sandbox.denials import DENIALS, TRUNCATE
from plumised.petals.sandbox.places import Surroundings, grants, kept_directories, model_directory, overlaps
from plumised.petals.sandbox.privileges import drop_capabilities, forbid_new_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plumised.ipc.job import EngineJob

_TRUNCATE_SINCE: Final = 3
"""The first ABI of Landlock that knows truncate(2)."""

_STANDARD_ERROR: Final = 2

_MOST_LINKS: Final = 10_000
"""How many entries of a model's directory are looked at for symbolic links."""

_NEEDED: Final = (LayerName.FILES, LayerName.SYSTEM_CALLS, LayerName.NO_NEW_PRIVILEGES)
"""What `required` does not go without. Signals can be scoped by kernels from 6.12 on only."""


def close_descriptors() -> None:
    """Close what whoever started this process has left open, but for standard input, output and error."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        # What Python itself opens is not handed on to programs, and has not come from one.
        with contextlib.suppress(OSError):
            if descriptor > _STANDARD_ERROR and os.get_inheritable(descriptor):
                os.close(descriptor)


def enter(job: EngineJob) -> Sandbox:
    """Confine this process and all that it starts, as far as the kernel can. Nothing undoes it.

    Must come before the process has a second thread: what is confined is a thread, with what it starts from then on.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job.sandbox == "off":
        return Sandbox()
    for directory in kept_directories(job):
        # Whoever needs it says what is wrong with it.
        with contextlib.suppress(OSError):
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    granted = grants(job, surroundings(job))
    privileges = _no_new_privileges()
    files, abi = _files(granted)
    layers = (files, _signals(abi), _system_calls(abi), privileges)
    return Sandbox(layers, overlaps(map(_resolved, job.hidden), [_resolve(each) for each in granted]))


def check(job: EngineJob, sandbox: Sandbox) -> None:
    """Refuse to go on without what the settings require.

    Raises:
        EngineError: `sandbox-unavailable`.
    """
    if job.sandbox != "required":
        return
    lacking = [f"no {each.name}: {each.detail}" for each in sandbox.layers if each.name in _NEEDED and not each.active]
    if faults := [*lacking, *sandbox.overlaps]:
        raise EngineError(
            "sandbox-unavailable",
            f'[engine] sandbox = "required", and the sandbox does not hold: {"; ".join(faults)}',
            "Boot a kernel with Landlock and seccomp and let the unit's system call filter allow them, keep state and "
            'secrets apart from what the engine uses, or set [engine] sandbox = "auto".',
            permanent=True,
        )


def surroundings(job: EngineJob) -> Surroundings:
    """What is to be known of this machine and this interpreter."""
    directory = model_directory(job)
    return Surroundings(
        prefixes=tuple(dict.fromkeys((sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix))),
        imports=tuple(entry for entry in sys.path if entry.startswith("/")),
        package=str(Path(__file__).parents[2]),
        devices=tuple(entry.name for entry in Path("/dev").iterdir()),
        model_links=tuple(_link_targets(directory)) if directory is not None else (),
    )


def _link_targets(directory: str) -> Iterator[str]:
    seen = 0
    for root, directories, files in os.walk(directory):
        for name in (*directories, *files):
            seen += 1
            if seen > _MOST_LINKS:
                return
            path = os.path.join(root, name)  # noqa: PTH118 -- thousands of them
            if os.path.islink(path):  # noqa: PTH114 -- as above
                yield os.path.realpath(path)


def _no_new_privileges() -> Layer:
    try:
        forbid_new_privileges()
        drop_capabilities()
    except SandboxError as error:
        return Layer(LayerName.NO_NEW_PRIVILEGES, active=False, detail=str(error))
    return Layer(LayerName.NO_NEW_PRIVILEGES, active=True, detail="and no capabilities of root")


def _files(granted: tuple[landlock.Grant, ...]) -> tuple[Layer, int]:
    """The layer, and the ABI that is in force; 0 for none."""
    try:
        abi = landlock.restrict(granted, landlock.kernel_abi())
    except SandboxError as error:
        return Layer(LayerName.FILES, active=False, detail=str(error)), 0
    return Layer(LayerName.FILES, active=True, detail=f"Landlock ABI {abi}"), abi


def _signals(abi: int) -> Layer:
    if abi and landlock.handled(abi).scoped:
        return Layer(LayerName.SIGNALS, active=True, detail=f"Landlock ABI {abi}")
    return Layer(LayerName.SIGNALS, active=False, detail="takes Landlock ABI 6, which came with Linux 6.12")


def _system_calls(abi: int) -> Layer:
    denials = (*DENIALS, TRUNCATE) if 0 < abi < _TRUNCATE_SINCE else DENIALS
    try:
        seccomp.install(denials)
    except SandboxError as error:
        return Layer(LayerName.SYSTEM_CALLS, active=False, detail=str(error))
    return Layer(LayerName.SYSTEM_CALLS, active=True, detail=f"seccomp, {len(denials)} calls refused")


def _resolve(grant: landlock.Grant) -> landlock.Grant:
    return replace(grant, path=_resolved(grant.path))


def _resolved(path: str) -> str:
    # What no text can hold could not be told to the daemon.
    return os.fsencode(os.path.realpath(path)).decode(errors="replace")
