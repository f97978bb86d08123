"""What the engine may use of the file system: everything that is not named here is closed to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from plumised.petals.sandbox.landlock import Grant, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plumised.ipc.job import EngineJob

_SYSTEM: Final = (
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/include",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/usr/local/share",
)
"""Programs and libraries; /usr/include, because torch compiles for the processor that it finds."""

_SETTINGS: Final = (
    # the dynamic linker
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    # users, time
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    # names in the network
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/protocols",
    "/etc/services",
    # whom to trust in the network
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
    # what libraries ask about the system
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/mime.types",
)

_KERNEL: Final = ("/proc", "/sys")
"""Processors, memory, control groups, GPUs. What /proc shows of a process beyond its name and arguments takes the right
to trace it, which Landlock gives for the engine's own processes only."""

_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 -- the place itself, no file in it
"""Where torch and Python keep what processes share."""

_RESOLVERS: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman")
"""Directories in which a resolv.conf is kept that others replace while the engine runs."""

_GPU_LIBRARIES: Final = ("/usr/local/nvidia", "/usr/local/cuda", "/opt/rocm", "/etc/OpenCL")
_GPU_DEVICES: Final = ("dri", "kfd")
_GPU_DEVICE_PREFIX: Final = "nvidia"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the decision needs to know of the machine. Paths are absolute.

    Attributes:
        prefixes: of Python's installation and of the environment in it.
        imports: directories in which modules are looked for.
        package: the directory of this program's package.
        devices: names in /dev.
        model_links: what symbolic links below the model's directory point to.
    """

    prefixes: tuple[str, ...]
    imports: tuple[str, ...]
    package: str
    devices: tuple[str, ...] = ()
    model_links: tuple[str, ...] = ()


def grants(job: EngineJob, around: Surroundings) -> tuple[Grant, ...]:
    """What the engine may use for a job."""
    return tuple(dict.fromkeys([*_machine(around), *_devices(job, around.devices), *_own(job), *_model(job, around)]))


def _machine(around: Surroundings) -> Iterator[Grant]:
    yield from _all(_SYSTEM, Use.RUN)
    yield from _all((*_SETTINGS, *_KERNEL, *_RESOLVERS), Use.READ)
    # /usr is there already, without those of its directories that hold data.
    yield from _all((prefix for prefix in around.prefixes if prefix not in {"/", "/usr", "/usr/local"}), Use.RUN)
    for directory in around.imports:
        # A directory of packages holds nothing else. Another one may be a source tree that holds anything.
        packages = PurePath(directory).name in {"site-packages", "dist-packages"}
        if directory != "/":
            yield Grant(directory, Use.RUN if packages else Use.LIST)
    yield Grant(around.package, Use.READ)


def _devices(job: EngineJob, names: Iterable[str]) -> Iterator[Grant]:
    yield from _all(_DEVICES, Use.DEVICE)
    yield Grant(_SHARED_MEMORY, Use.KEEP)
    if job.device == "cpu":
        return
    yield from _all(_GPU_LIBRARIES, Use.RUN)
    for name in names:
        if name in _GPU_DEVICES or name.startswith(_GPU_DEVICE_PREFIX):
            yield Grant(f"/dev/{name}", Use.DEVICE)


def _own(job: EngineJob) -> Iterator[Grant]:
    yield from _all(kept_directories(job), Use.KEEP)
    yield Grant(job.identity_file, Use.READ)


def kept_directories(job: EngineJob) -> tuple[str, ...]:
    """The directories that the engine writes in."""
    return (job.cache_dir, job.runtime_dir, job.tally_dir)


def _model(job: EngineJob, around: Surroundings) -> Iterator[Grant]:
    if model_directory(job) is None:
        return
    yield Grant(job.model, Use.READ)
    for target in around.model_links:
        # Who made the checkpoint made its links, too.
        if not any(_within(target, secret) for secret in job.hidden):
            yield Grant(target, Use.READ)


def model_directory(job: EngineJob) -> str | None:
    """The model's directory, if it is one that the engine cannot write in: links elsewhere may be trusted then."""
    if not PurePath(job.model).is_absolute() or any(_within(job.model, own) for own in kept_directories(job)):
        return None
    return job.model


def overlaps(hidden: Iterable[str], granted: Iterable[Grant]) -> tuple[str, ...]:
    """For people: which of the hidden files and directories are open to the engine after all, and by what.

    Args:
        hidden: resolved paths.
        granted: with resolved paths.
    """
    return tuple(
        f"{secret} lies in {grant.path}"
        for secret in hidden
        for grant in granted
        if grant.use is not Use.LIST and _within(secret, grant.path)
    )


def _within(path: str, directory: str) -> bool:
    return PurePath(path).is_relative_to(directory)


def _all(paths: Iterable[str], use: Use) -> Iterator[Grant]:
    return (Grant(path, use) for path in paths)
