"""Goes into the background, as hosts without systemd want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import DaemonContext

from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

UMASK = 0o027


class LogFileError(OperatorError):
    """The file that a daemon in the background logs to cannot be opened."""

    code = "log-file"


def enter(log_file: Path) -> None:
    """Leave the terminal: fork twice, go to /, close all files, write standard output and error to the log file.

    Only the process in the background returns; the one that was called ends with 0.

    Args:
        log_file: appended to; made with mode 0640.

    Raises:
        LogFileError: it cannot be opened. Then the process is still in the foreground.
    """
    try:
        log = log_file.open("a", encoding="utf-8")
        log_file.chmod(0o640)
    except OSError as error:
        raise LogFileError(
            f"{log_file} cannot be written: {error.strerror}",
            "Let the user that runs plumised write to node.state_dir.",
        ) from None
    # The daemon sets its own handlers; an empty map keeps the package from setting any.
    DaemonContext(
        working_directory="/",
        umask=UMASK,
        stdout=log,
        stderr=log,
        detach_process=True,
        prevent_core=True,
        signal_map={},
    ).open()
