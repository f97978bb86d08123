"""Docker's command line."""

from __future__ import annotations

import subprocess


class DockerError(Exception):
    """Docker refused; the message is what it said."""


def docker(*arguments: str, timeout_s: float = 120.0) -> str:
    """Run one of Docker's commands and return what it prints.

    Raises:
        DockerError: it failed, or did not end in time.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise DockerError(f"docker {' '.join(arguments)} did not end in {timeout_s:g} s") from None
    if done.returncode != 0:
        raise DockerError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
