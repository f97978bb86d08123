"""From the daemon's job to what petals and its libraries take."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.petals.failures import EngineError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from plumised.ipc.job import EngineJob

_UNIX_PATH_BYTES: Final = 107
_LONGEST_SOCKET: Final = "hivemind-p2pclient-0123456789a.sock"


def library_environment(job: EngineJob) -> dict[str, str]:
    """The variables that petals, transformers and the hub's client read at import.

    They are set inside the engine's process from the job, so that nobody's shell or unit file decides what it does.
    """
    cache = job.cache_dir
    variables = {
        "BITSANDBYTES_NOWELCOME": "1",
        "HF_HOME": cache,
        "HF_HUB_CACHE": f"{cache}/hub",
        "HUGGINGFACE_HUB_CACHE": f"{cache}/hub",
        "TRANSFORMERS_CACHE": f"{cache}/hub",
        "PETALS_CACHE": cache,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HIVEMIND_COLORS": "False",
        "PETALS_LOGGING": "False",
        "TOKENIZERS_PARALLELISM": "false",
        "TMPDIR": job.runtime_dir,
        # p2pd's, which is written in Go: 4 MB less of garbage, for no processor time that could be measured.
        "GOGC": "50",
    }
    if job.offline or Path(job.model).is_absolute():
        variables["HF_HUB_OFFLINE"] = "1"
        variables["TRANSFORMERS_OFFLINE"] = "1"
    if job.hub_url is not None:
        variables["HF_ENDPOINT"] = job.hub_url
    if job.fast_path:
        # What is left to torch then are long steps. Threads that spin at their barriers on cores that others use as
        # well have been seen to take ten times as long as threads that sleep.
        variables["OMP_WAIT_POLICY"] = "passive"
    if job.threads is not None:
        variables["OMP_NUM_THREADS"] = str(job.threads)
    return variables


def prepare_process(job: EngineJob, environment: MutableMapping[str, str]) -> None:
    """Make this process ready for the libraries: variables, scratch directory, open files.

    Raises:
        EngineError: the runtime directory cannot be used.
    """
    environment.update(library_environment(job))
    runtime_dir = Path(job.runtime_dir)
    if len(os.fsencode(runtime_dir / _LONGEST_SOCKET)) > _UNIX_PATH_BYTES:
        raise EngineError(
            "runtime-dir-too-long",
            f"the path {runtime_dir} is too long for the unix sockets that p2pd makes in it",
            "Set [node] runtime_dir to a shorter path.",
            permanent=True,
        )
    try:
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(job.cache_dir).mkdir(mode=0o750, parents=True, exist_ok=True)
        # Handlers write there as they start; one that could not would be waited for without an end.
        Path(job.tally_dir, job.incarnation).mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_runtime_dir(job)
    except OSError as error:
        raise EngineError(
            "directory-not-writable",
            f"cannot prepare {error.filename}: {error.strerror}",
            "Make [node] state_dir, runtime_dir and cache_dir writable for the user of the service.",
            permanent=True,
        ) from error
    tempfile.tempdir = job.runtime_dir
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def clear_runtime_dir(job: EngineJob) -> None:
    """Remove what this or an earlier life has left in the runtime directory, if there is one. It is the engine's alone.

    Raises:
        OSError: something cannot be removed.
    """
    directory = Path(job.runtime_dir)
    for leftover in directory.iterdir() if directory.is_dir() else ():
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
