"""From the end of an engine to what its operator is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.causes import Exit, diagnose
from plumised.engine.health import Ailment, Stuck
from plumised.ipc.messages import Failure

NOISE = ("INFO loading", "INFO still loading")


@pytest.mark.parametrize(
    ("line", "code", "permanent"),
    [
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "gpu-memory", False),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory",
            "memory",
            False,
        ),
        ("MemoryError", "memory", False),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)", "gpu-driver", True),
        ("AssertionError: Torch not compiled with CUDA enabled", "gpu-driver", True),
        ("OSError: [Errno 98] Address already in use", "port-taken", False),
        (
            "failed to listen on any addresses: [listen tcp4 0.0.0.0:31330: bind: address already in use]",
            "port-taken",
            False,
        ),
        ("OSError: [Errno 28] No space left on device", "disk-full", False),
        ("ModuleNotFoundError: No module named 'torch'", "engine-environment", True),
        ("/usr/bin/python3: No module named plumised.petals", "engine-environment", True),
        ("ModuleNotFoundError: No module named 'numpy'", "engine-crashed", False),
        ("p2pd: error while loading shared libraries: libc.musl.so", "engine-environment", True),
        ("PermissionError: [Errno 13] Permission denied: '/var/lib/plumise/identity.key'", "engine-permission", False),
    ],
)
def test_the_last_lines_betray_the_cause_and_are_its_evidence(line: str, code: str, permanent: bool) -> None:
    cause = diagnose(Exit(1, lines=(*NOISE, line, "  at exit")))
    assert (cause.code, cause.permanent) == (code, permanent)
    assert line in cause.evidence


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (0, "engine-exited", "without being asked"),
        (1, "engine-crashed", "status 1"),
        (78, "engine-refused", "refuses"),
        (-9, "engine-killed", "SIGKILL"),
        (-11, "engine-killed", "SIGSEGV"),
        (-64, "engine-killed", "SIGRTMAX"),
        (-1000, "engine-killed", "1000"),
    ],
)
def test_without_a_hint_the_exit_status_is_told(status: int, code: str, words: str) -> None:
    cause = diagnose(Exit(status, lines=NOISE))
    assert cause.code == code
    assert words in cause.message
    assert cause.permanent == (status == 78)
    assert cause.evidence == NOISE


def test_what_the_engine_says_itself_comes_first() -> None:
    said = Failure("checkpoint", "tensor h.3 is missing", "Get the model again.", permanent=False)
    cause = diagnose(Exit(-9, failure=said, oom_killed=True, lines=("CUDA out of memory",)))
    assert (cause.code, cause.message, cause.remedy) == ("checkpoint", "tensor h.3 is missing", "Get the model again.")


def test_a_failure_is_permanent_if_the_engine_says_so_or_exits_so() -> None:
    passing = Failure("x", "m", "r", permanent=False)
    lasting = Failure("x", "m", "r", permanent=True)
    assert not diagnose(Exit(70, failure=passing)).permanent
    assert diagnose(Exit(70, failure=lasting)).permanent
    assert diagnose(Exit(78, failure=passing)).permanent


def test_want_of_memory_is_told_from_other_kills() -> None:
    assert diagnose(Exit(-9, oom_killed=True)).code == "oom-killed"
    dead = Stuck("handler-1", 0.0, Ailment.DEAD)
    assert diagnose(Exit(-9, verdict=dead, oom_killed=True)).code == "oom-killed"


@pytest.mark.parametrize(
    ("ailment", "code"),
    [
        (Ailment.DEAD, "engine-part-dead"),
        (Ailment.IDLE, "engine-stuck"),
        (Ailment.SPINNING, "engine-spinning"),
        (Ailment.ABSENT, "engine-part-absent"),
        (Ailment.NO_PROGRESS, "engine-no-progress"),
    ],
)
def test_an_engine_that_the_supervisor_ended_says_for_what(ailment: Ailment, code: str) -> None:
    cause = diagnose(Exit(-9, verdict=Stuck("p2pd", 0.0, ailment), lines=NOISE))
    assert cause.code == code
    assert "p2pd" in cause.message
    assert cause.evidence == NOISE


def test_a_start_that_did_not_get_on_is_explained_by_its_last_lines() -> None:
    verdict = Stuck("main", 0.0, Ailment.NO_PROGRESS)
    assert diagnose(Exit(-9, verdict=verdict, lines=("No space left on device",))).code == "disk-full"


@given(
    st.builds(
        Exit,
        st.integers(-100, 255),
        lines=st.lists(st.text(max_size=200), max_size=50).map(tuple),
        oom_killed=st.booleans(),
    )
)
def test_every_end_has_a_cause_with_a_remedy(end: Exit) -> None:
    cause = diagnose(end)
    assert cause.code
    assert cause.message
    assert cause.remedy
    assert len(cause.evidence) <= 10
