from __future__ import annotations

from dataclasses import replace

import pytest

from plumised.observe.checks import CHECKS, Severity, problems
from plumised.observe.status import EngineState, SandboxStatus, Status, Trouble
from tests.unit.observe import statuses
from tests.unit.observe.statuses import AGENT, HEALTHY, NOW, TROUBLE


def test_a_healthy_node_has_no_problem_and_serves() -> None:
    assert problems(HEALTHY) == ()
    assert HEALTHY.serving


@pytest.mark.parametrize(
    ("status", "code", "severity", "words"),
    [
        (statuses.engine(state=EngineState.FAILED), "engine-failed", Severity.ERROR, "no cause is known"),
        (statuses.engine(state=EngineState.FAILED, failure=TROUBLE), "some-code", Severity.ERROR, "Something is wrong"),
        (statuses.engine(state=EngineState.BACKOFF), "engine-restarting", Severity.WARNING, "is started again"),
        (statuses.engine(state=EngineState.BACKOFF, failure=TROUBLE), "some-code", Severity.WARNING, "again: S"),
        (statuses.engine(state=EngineState.STARTING, failure=TROUBLE), "some-code", Severity.WARNING, "again: S"),
        (
            statuses.unconfined("files", "signals", "no-new-privileges"),
            "engine-unconfined",
            Severity.WARNING,
            "sandbox: files (why), no-new-privileges (why)",
        ),
        (
            statuses.engine(sandbox=SandboxStatus("auto", overlaps=("/a/b lies in /a",))),
            "sandbox-overlap",
            Severity.WARNING,
            "/a/b lies in /a",
        ),
        (statuses.engine(stuck="handler-1"), "engine-stuck", Severity.ERROR, "handler-1"),
        (statuses.node(trouble=TROUBLE), "some-code", Severity.ERROR, "Something is wrong"),
        (statuses.oracle(trouble=TROUBLE), "some-code", Severity.WARNING, "Something is wrong"),
        (statuses.oracle(announcing=TROUBLE), "some-code", Severity.WARNING, "Something is wrong"),
        (statuses.oracle(last_accepted_at=NOW - 500), "reports-late", Severity.WARNING, "for 8 min; 350 tokens"),
        (statuses.oracle(last_accepted_at=None), "reports-late", Severity.WARNING, "for 2 h"),
        (statuses.oracle(clock_skew_s=45.0), "clock-skew", Severity.WARNING, "45 s ahead of"),
        (statuses.oracle(clock_skew_s=-45.0), "clock-skew", Severity.WARNING, "45 s behind"),
        (statuses.chain(troubles=(TROUBLE,)), "some-code", Severity.WARNING, "Something is wrong"),
        (statuses.chain(registered=False), "not-registered", Severity.WARNING, AGENT),
        (statuses.chain(last_heartbeat_at=NOW - 301), "heartbeat-late", Severity.ERROR, "for 5 min"),
        (statuses.chain(last_heartbeat_at=None), "heartbeat-late", Severity.ERROR, "for 60 min"),
        (statuses.chain(balance_wei=10**15), "balance-low", Severity.WARNING, f"{AGENT} has 0.001 PLM left"),
    ],
)
def test_a_problem_is_told(status: Status, code: str, severity: Severity, words: str) -> None:
    (problem,) = problems(status)

    assert (problem.code, problem.severity) == (code, severity)
    assert words in problem.message
    assert problem.remedy.endswith(".")


@pytest.mark.parametrize(
    "status",
    [
        statuses.oracle(enabled=False, trouble=TROUBLE, announcing=TROUBLE, last_accepted_at=None),
        statuses.chain(enabled=False, troubles=(TROUBLE,), registered=False, balance_wei=0),
        statuses.chain(registered=None),
        statuses.chain(balance_wei=None),
        statuses.chain(heartbeats_due=False, last_heartbeat_at=None),
        statuses.engine(state=EngineState.STARTING),
        statuses.engine(state=EngineState.SERVING, failure=TROUBLE),
        statuses.engine(sandbox=None),
        statuses.engine(sandbox=SandboxStatus("off")),
        statuses.unconfined("signals"),
        replace(statuses.chain(last_heartbeat_at=None), engine=replace(HEALTHY.engine, since=NOW - 20)),
        statuses.oracle(clock_skew_s=2.0),
        replace(statuses.node(started_at=NOW - 5), oracle=replace(HEALTHY.oracle, last_accepted_at=None)),
    ],
)
def test_what_is_off_unknown_or_young_is_no_problem(status: Status) -> None:
    assert problems(status) == ()


def test_errors_are_told_first() -> None:
    status = replace(statuses.chain(registered=False), engine=statuses.engine(stuck="dht").engine)

    assert [problem.code for problem in problems(status)] == ["engine-stuck", "not-registered"]


def test_one_code_is_told_once() -> None:
    status = replace(statuses.chain(troubles=(TROUBLE,)), oracle=statuses.oracle(trouble=TROUBLE).oracle)

    assert [problem.code for problem in problems(status)] == ["some-code"]


def test_a_trouble_keeps_its_times() -> None:
    (problem,) = problems(statuses.oracle(trouble=TROUBLE))

    assert (problem.since, problem.next_try_at) == (NOW - 60, NOW + 30)


def test_an_engine_that_waits_says_when_it_is_started_again() -> None:
    failure = Trouble("engine-crashed", "It crashed", "Read its lines.")
    (problem,) = problems(statuses.engine(state=EngineState.BACKOFF, next_try_at=NOW + 8, failure=failure))

    assert problem.next_try_at == NOW + 8


@pytest.mark.parametrize(
    "status",
    [statuses.engine(state=state) for state in EngineState if state is not EngineState.SERVING]
    + [statuses.engine(stuck="runtime")],
)
def test_a_node_whose_engine_does_not_answer_does_not_serve(status: Status) -> None:
    assert not status.serving


def test_checks_have_names_of_their_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_every_problem_of_the_chain_is_told() -> None:
    troubles = tuple(replace(TROUBLE, code=code) for code in ("first", "second", "third"))
    assert [problem.code for problem in problems(statuses.chain(troubles=troubles))] == ["first", "second", "third"]


def test_the_gravest_of_one_code_is_told() -> None:
    troubles = (replace(TROUBLE, message="grave"), replace(TROUBLE, message="light"))
    (told,) = problems(statuses.chain(troubles=troubles))
    assert told.message == "grave"
