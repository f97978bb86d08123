"""A real engine among hostile peers: what it refuses, what it keeps to itself, and that others do not notice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Counters, Role, Usage
from tests.devnet.hostile import HostilePeer
from tests.petals.client import ClientError, SwarmClient
from tests.petals.conftest import BLOCKS
from tests.petals.engine_process import EngineProcess, total
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(300)

HIDDEN = 64
LONGEST = 2048
CACHE_TOKENS = 4096
MIB = 2**20
NOTHING = Counters()


class Watched:
    """An engine, what it has counted and what it took when this was made."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self._usage = engine.tallied()
        self._processes = {process.pid for process in engine.processes()}
        self._written = len(engine.log)

    def served(self, *, inference: Counters = NOTHING, forward: Counters = NOTHING) -> None:
        """It has counted exactly this, and lives."""
        expected = total([self._usage, Usage(inference, forward, NOTHING)])
        tallied = self.engine.tallied
        eventually(lambda: tallied() == expected, f"{expected} is counted", explain=lambda: str(tallied()))
        self.lives()

    def lives(self) -> None:
        """No process of it has ended, and every event loop turns."""
        assert self._processes <= {process.pid for process in self.engine.processes()}
        since, recorder = len(self.engine.recorder), self.engine.recorder
        parts = {(Role.MAIN, 0), (Role.HANDLER, 0), (Role.HANDLER, 1)}

        def beating() -> bool:
            return all(recorder.beats(role, since, index) for role, index in parts)

        self.engine.wait(beating, "main process and handlers beat")

    @property
    def said(self) -> str:
        return self.engine.log[self._written :]


def memory(engine: EngineProcess) -> int:
    """Bytes of memory, shared ones by their share."""
    found = 0
    for process in engine.processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            found += int(rollup.partition("Pss:")[2].split()[0]) * 1024
    return found


def descriptors(engine: EngineProcess) -> int:
    found = 0
    for process in engine.processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            found += sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())
    return found


@pytest.fixture(scope="module")
def engine(bloom: Path) -> Iterator[EngineProcess]:
    with EngineProcess(bloom, first_block=0, last_block=BLOCKS, attention_cache_tokens=CACHE_TOKENS) as running:
        running.online()
        yield running


@pytest.fixture(scope="module")
def honest(engine: EngineProcess, bloom: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmClient]:
    with SwarmClient(bloom, engine.online().addresses, tmp_path_factory.mktemp("honest") / "log") as client:
        yield client


@pytest.fixture(scope="module")
def program(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostilePeer]:
    log = tmp_path_factory.mktemp("hostile") / "log"
    with HostilePeer(engine.online().addresses[0], "test", BLOCKS, HIDDEN, log=log) as peer:
        yield peer


@pytest.fixture
def hostile(program: HostilePeer) -> Iterator[HostilePeer]:
    """What it has opened in a test is closed after it."""
    yield program
    program.do("let_go")
    # Nothing of the last test counts against it in the next one.
    eventually(lambda: program.do("served") == {"pass": "served"}, "it is served again")


@pytest.fixture
def watched(engine: EngineProcess) -> Watched:
    return Watched(engine)


def not_refused(outcomes: dict[str, str]) -> dict[str, str]:
    """A stream may be gone before its peer has read why."""
    return {name: what for name, what in outcomes.items() if not what.startswith("refused") and what != "closed"}


def test_a_malformed_request_is_refused_and_counts_nothing(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    honest.open("meanwhile")
    honest.step("meanwhile", length=2)

    assert not_refused(hostile.do("malformed")) == {}

    honest.step("meanwhile", length=1)
    honest.close("meanwhile")
    watched.served(inference=Counters(requests=1, steps=2, tokens=3))


def test_so_are_malformed_calls_and_what_is_wrong_in_the_course_of_a_session(
    hostile: HostilePeer, watched: Watched
) -> None:
    outcomes = hostile.do("malformed_otherwise")

    assert not_refused(outcomes) == {}
    # The first steps of two sessions.
    watched.served(inference=Counters(requests=2, steps=2, tokens=6))


def test_what_is_refused_takes_a_few_lines_of_the_log_and_no_traceback(hostile: HostilePeer, watched: Watched) -> None:
    hostile.do("malformed")
    hostile.do("malformed")

    assert "Traceback" not in watched.said
    # Of a thousand requests, each place in the code has twenty lines, in two processes.
    assert len(watched.said.splitlines()) < 400


def test_what_is_no_message_ends_its_stream_and_nothing_else(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    assert not_refused(hostile.do("no_protocol")) == {}
    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_connections_that_speak_no_protocol_are_closed(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    before = descriptors(watched.engine)

    hostile.do("garbage", connections=1000)

    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    eventually(lambda: descriptors(watched.engine) < before + 100, "the connections are closed")
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_streams_on_which_nothing_is_said_are_few_and_end(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    before = descriptors(watched.engine)

    assert int(hostile.do("silent_streams", count=600)["streams"]) > 64

    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    # p2pd and a handler have one each.
    eventually(lambda: descriptors(watched.engine) < before + 2 * 2 * 64 + 100, "only so many are left")
    eventually(lambda: descriptors(watched.engine) < before + 50, "none of them is left")
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_attention_cache_of_idle_sessions_is_given_to_who_needs_it(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    taken = hostile.do("reserve", count=CACHE_TOKENS // LONGEST + 2, length=LONGEST)
    assert taken["served"] == str(CACHE_TOKENS // LONGEST)

    def served() -> bool:
        honest.open("in need", max_length=LONGEST)
        try:
            honest.step("in need", length=3)
        except ClientError:
            return False
        return True

    # They are open all the time.
    eventually(served, "an honest session has cache")
    honest.step("in need")
    honest.close("in need")
    watched.served(inference=Counters(requests=3, steps=2 + 2, tokens=2 + 4))


def test_a_message_that_is_too_long_is_not_read(hostile: HostilePeer, honest: SwarmClient, watched: Watched) -> None:
    before = memory(watched.engine)

    assert not_refused(hostile.do("oversized", mebibytes=1024)) == {}

    assert memory(watched.engine) < before + 100 * MIB
    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_messages_that_never_end_take_little_memory(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    before = memory(watched.engine)

    hostile.do("trickle", count=150)

    assert memory(watched.engine) < before + 250 * MIB
    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_only_so_many_passes_of_a_peer_are_computed_and_each_that_is_served_is_counted(
    hostile: HostilePeer, watched: Watched
) -> None:
    outcomes = {name: int(number) for name, number in hostile.do("calls", count=200, length=64).items()}

    served = outcomes.pop("served")
    assert 64 <= served < 200
    assert all("the most" in name for name in outcomes)
    watched.served(forward=Counters(requests=served, steps=served, tokens=64 * served))


def test_passes_that_nobody_waits_for_do_not_pile_up(
    hostile: HostilePeer, honest: SwarmClient, watched: Watched
) -> None:
    before = memory(watched.engine)

    for _ in range(5):
        hostile.do("ask_and_forget", count=100, length=1024)

    assert honest.forward(batch=1, length=2) == [1, 2, HIDDEN]
    assert memory(watched.engine) < before + 250 * MIB
    watched.lives()


def test_pushed_steps_that_a_session_cannot_use_are_left_out(hostile: HostilePeer, watched: Watched) -> None:
    outcomes = hostile.do("pushes", count=300)

    assert outcomes["first step"] == "served"
    watched.served(inference=Counters(requests=1, steps=1, tokens=3))


def test_what_peers_store_in_the_dht_is_bounded(
    hostile: HostilePeer, bloom: Path, watched: Watched, tmp_path: Path
) -> None:
    before = memory(watched.engine)

    outcomes = hostile.do("store", mebibytes=200)

    assert int(outcomes.pop("values: served")) < 100
    assert not_refused({name: outcome for name, outcome in outcomes.items() if not name.startswith("values")}) == {}
    assert memory(watched.engine) < before + 200 * MIB
    # Who comes next finds the blocks.
    with SwarmClient(bloom, watched.engine.online().addresses, tmp_path / "log") as newcomer:
        assert newcomer.forward(batch=1, length=2) == [1, 2, HIDDEN]
    watched.served(forward=Counters(requests=1, steps=1, tokens=2))


def test_what_a_client_had_reserved_is_free_when_it_vanishes_in_mid_step(
    honest: SwarmClient, watched: Watched, tmp_path: Path
) -> None:
    before = descriptors(watched.engine)
    with HostilePeer(watched.engine.online().addresses[0], "test", BLOCKS, HIDDEN, log=tmp_path / "log") as hostile:
        hostile.do("begin_steps", count=CACHE_TOKENS // 1024, length=1024)
        hostile.vanish()

    def served() -> bool:
        # As much as there is.
        honest.open("after it", max_length=LONGEST)
        try:
            return honest.step("after it", batch=CACHE_TOKENS // LONGEST, length=1) is not None
        except ClientError:
            return False

    eventually(served, "all of the cache is free")
    honest.close("after it")
    eventually(lambda: descriptors(watched.engine) < before + 20, "its connections are closed")
    watched.lives()
    assert watched.engine.reported() == watched.engine.tallied()


def test_sessions_that_reserve_and_compute_nothing_stop_nobody(
    start: Callable[..., EngineProcess], bloom: Path, tmp_path: Path
) -> None:
    # Without the fast path the cache is in the main process, and upstream fills a pipe to it.
    engine = start(bloom, fast_path=False)
    address = engine.online().addresses[0]
    with HostilePeer(address, "test", BLOCKS, HIDDEN, log=tmp_path / "hostile.log") as hostile:
        assert hostile.do("reserve_and_leave", count=300) == {"served": "300"}
        assert hostile.do("served") == {"pass": "served"}
    Watched(engine).lives()
