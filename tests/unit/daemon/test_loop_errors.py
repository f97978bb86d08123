from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from plumised.daemon.loop_errors import PAUSE_S, LoopErrors

if TYPE_CHECKING:
    import pytest


def told(error: Exception, times: tuple[float, ...]) -> None:
    clock = iter(times)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(LoopErrors(lambda: next(clock)))
    for _ in times:
        loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
    loop.close()


def test_used_up_descriptors_are_told_once_a_minute_and_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    told(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), (5.0, 5.1, 5.0 + PAUSE_S))

    assert [record.exc_info for record in caplog.records] == [None, None]
    assert "Too many open files" in caplog.text


def test_any_other_error_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    told(OSError(errno.EIO, "broken"), (1.0, 2.0))

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert all(record.exc_info for record in caplog.records)
