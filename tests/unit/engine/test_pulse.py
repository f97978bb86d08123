"""From messages and samples to what health judges."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.health import Part
from plumised.engine.policy import EnginePolicy
from plumised.engine.processes import ProcessId, ProcessStat
from plumised.engine.pulse import Attention, Pulse
from plumised.ipc.messages import PROTOCOL, Beat, Hello, Phase, Role, State

MAIN = Hello(PROTOCOL, "x", Role.MAIN, 0, 100)
HANDLER = Hello(PROTOCOL, "x", Role.HANDLER, 0, 101)


def pulse(handlers: int = 1) -> Pulse:
    return Pulse(0.0, MAIN.pid, handlers, EnginePolicy())


def process(pid: int, name: str = "python", **fields: object) -> ProcessStat:
    stat = ProcessStat(ProcessId(pid, 1), name, "S", 100, 100, 0.0, 0)
    return replace(stat, **fields)  # type: ignore[arg-type]  # the test names fields that exist


def part(pulse: Pulse, now: float, name: str) -> Part:
    return next(part for part in pulse.vitals(now).parts if part.name == name)


def test_a_part_is_silent_from_its_last_advance() -> None:
    observed = pulse()
    for now in range(1, 6):
        observed.hear(float(now), MAIN, Beat(loop=now, runtime=now, dht=min(now, 3), p2pd=now))
    assert part(observed, 5.5, "main").silent_s == 0.5
    assert part(observed, 5.5, "runtime").silent_s == 0.0
    assert part(observed, 5.5, "dht").silent_s == 2.0


def test_blocks_that_are_computed_count_as_an_advance_of_the_runtime() -> None:
    observed = pulse()
    for now in range(1, 6):
        observed.hear(float(now), MAIN, Beat(loop=now, blocks=now))
    assert part(observed, 5.0, "runtime").silent_s == 0.0


def test_while_main_is_silent_the_parts_that_it_reports_do_not_grow_silent() -> None:
    observed = pulse()
    observed.hear(1.0, MAIN, Beat(loop=1, dht=1))
    assert part(observed, 500.0, "dht").silent_s == 0.0
    assert part(observed, 500.0, "main").silent_s == 499.0
    observed.hear(500.0, MAIN, Beat(loop=2, dht=1))
    assert part(observed, 500.0, "dht").silent_s <= EnginePolicy().stuck_s / 4


def test_going_online_is_a_fresh_start_for_every_part() -> None:
    observed = pulse()
    for now in range(1, 100):
        observed.hear(float(now), MAIN, Beat(loop=now))
    observed.hear(100.0, MAIN, State(Phase.ONLINE))
    assert part(observed, 100.0, "runtime").silent_s == 0.0


def test_a_handler_advances_with_its_own_beats_alone() -> None:
    observed = pulse()
    observed.connected(1.0, HANDLER)
    observed.hear(2.0, HANDLER, Beat(loop=1))
    observed.hear(9.0, HANDLER, Beat(loop=1))
    observed.hear(9.0, MAIN, Beat(loop=1))
    assert part(observed, 10.0, "handler-0").silent_s == 8.0


def test_a_process_works_when_it_uses_the_cpu_or_the_disk_or_waits_for_it() -> None:
    for worked in ({"cpu_s": 0.05}, {"io_bytes": 10**6}, {"state": "D"}):
        observed = pulse()
        observed.sample(1.0, [process(100)])
        observed.sample(2.0, [process(100, **worked)])
        assert part(observed, 5.0, "main").idle_s == 3.0
    for idle in ({}, {"cpu_s": 0.04}, {"state": "T", "cpu_s": 9.0}):
        observed = pulse()
        observed.sample(1.0, [process(100)])
        observed.sample(2.0, [process(100, **idle)])
        assert part(observed, 5.0, "main").idle_s == 4.0


def test_work_is_put_down_to_the_part_whose_process_does_it() -> None:
    observed = pulse()
    observed.connected(0.0, HANDLER)
    observed.hear(0.0, MAIN, Beat(loop=1))
    crew = [process(100), process(101), process(102, "p2pd"), process(103)]
    observed.sample(1.0, crew)
    for working, names in ((0, {"main", "runtime"}), (1, {"handler-0"}), (2, {"p2pd"}), (3, {"dht"})):
        now = 2.0 + working
        crew[working] = replace(crew[working], cpu_s=1.0)
        observed.sample(now, crew)
        assert {part.name for part in observed.vitals(now).parts if part.idle_s == 0.0} == names


def test_a_handler_whose_process_is_gone_or_only_a_zombie_is_dead() -> None:
    for left in ([process(100)], [process(100), process(101, state="Z")]):
        observed = pulse()
        observed.connected(0.0, HANDLER)
        observed.sample(1.0, [process(100), process(101)])
        assert not part(observed, 1.0, "handler-0").dead
        observed.sample(2.0, left)
        assert part(observed, 2.0, "handler-0").dead


def test_what_a_beat_calls_dead_is_dead_known_or_not() -> None:
    observed = pulse()
    observed.hear(1.0, MAIN, Beat(loop=1, dead=("p2pd", "announcer")))
    assert {part.name for part in observed.vitals(1.0).parts if part.dead} == {"p2pd", "announcer"}


def test_handlers_are_missed_from_going_online_or_losing_their_connection() -> None:
    observed = pulse(handlers=2)
    assert observed.vitals(5.0).absent == ()
    observed.connected(1.0, HANDLER)
    observed.hear(6.0, MAIN, State(Phase.ONLINE))
    assert observed.vitals(7.0).absent == (("handler-1", 6.0),)
    observed.disconnected(8.0, HANDLER)
    assert observed.vitals(9.0).absent == (("handler-0", 8.0), ("handler-1", 6.0))
    observed.connected(9.0, HANDLER)
    assert observed.connected_handlers == 1


def test_a_phase_a_block_or_a_megabyte_is_progress_and_a_beat_is_not() -> None:
    observed = pulse()
    observed.hear(1.0, MAIN, State(Phase.LOADING, block=0))
    observed.hear(2.0, MAIN, State(Phase.LOADING, block=1))
    assert observed.vitals(9.0).progress_at == 2.0
    observed.hear(3.0, MAIN, Beat(loop=9))
    observed.hear(3.0, MAIN, State(Phase.LOADING, block=1, dtype="float32"))
    assert observed.vitals(9.0).progress_at == 2.0
    observed.sample(4.0, [process(100, io_bytes=1 << 20)])
    observed.sample(5.0, [process(100, io_bytes=(1 << 20) + 1)])
    assert observed.vitals(9.0).progress_at == 4.0


@given(st.lists(st.floats(-10, 1000), max_size=50))
def test_the_attentive_clock_never_goes_back_and_skips_what_it_did_not_see(looks: list[float]) -> None:
    attention = Attention(0.0, 3.0)
    before = 0.0
    for look in looks:
        time = attention.look(look)
        assert before <= time <= before + 3.0
        before = time
