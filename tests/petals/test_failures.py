"""What foreign exceptions mean to the operator."""

from __future__ import annotations

import errno

import pytest

from plumised.petals.failures import CRASHED, EngineError, describe


def test_an_understood_failure_is_itself() -> None:
    error = EngineError("some-code", "what happened", "what to do", permanent=True)
    assert describe(error) is error.failure


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out-of-memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out-of-memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (RuntimeError("Insufficient disk space to load a block. Please free 2.0 GiB"), "disk-full"),
        (RuntimeError("Daemon failed to start: listen tcp4: bind: address already in use"), "port-taken"),
        (RuntimeError("Identity from `/i` is already taken by another peer"), "identity-taken"),
        (RuntimeError("Daemon failed to start: failed to connect to bootstrap peers"), "swarm-unreachable"),
        (ZeroDivisionError("division by zero"), CRASHED),
    ],
)
def test_a_foreign_exception_is_named_by_its_words(error: Exception, code: str) -> None:
    failure = describe(error)
    assert (failure.code, failure.permanent) == (code, False)
    assert failure.remedy.endswith(".")
    assert type(error).__name__ in failure.message


def test_a_long_exception_becomes_one_short_line() -> None:
    message = describe(RuntimeError("one\n\n  two\t" + "x" * 10_000)).message
    assert message.startswith("RuntimeError: one two xxx")
    assert len(message) <= 500
