"""What every error of the daemon has in common: a stable code, what happened, and what to do about it."""

from __future__ import annotations

import errno
from typing import ClassVar, Final

EXIT_CONFIG = 78
"""sysexits.h EX_CONFIG: the operator must change something; systemd does not restart on it."""

NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""By which the kernel says that there is no file descriptor left, for the process or the machine."""


class PlumisedError(Exception):
    """Base of the daemon's errors.

    Attributes:
        code: stable kebab-case identifier, documented in docs/reasons.md.
        message: what happened and where, one sentence, without secrets.
        remedy: what the operator can do, one sentence.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.code}). {self.remedy}"


class OperatorError(PlumisedError):
    """Nothing will get better by itself: the operator must change something. The process exits with 78."""

    code = "operator"
