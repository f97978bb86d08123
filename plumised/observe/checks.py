"""The health checks, as data: each has a name, a severity, a remedy and a pure function over the status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from plumised.observe.status import EngineState, Status, Trouble
from plumised.observe.wording import amount, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEAD_AFTER_S = 300.0
"""The chain calls an agent dead when it has had no heartbeat for this long."""

MISSED_REPORTS = 3
"""How many intervals may pass without an accepted report."""

SKEW_LIMIT_S = 30.0
"""The Oracle refuses timestamps 61 s off; half of that is a warning."""


CONFINING = frozenset({"files", "system-calls", "no-new-privileges"})
"""The layers of the engine's sandbox that every supported kernel has. Signals are scoped from Linux 6.12 on."""


class Severity(StrEnum):
    """How bad it is: an error keeps the node from its job, a warning will if nothing is done."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a check found.

    Attributes:
        code: stable identifier, documented in docs/reasons.md.
        message: what is wrong, with the values concerned.
        remedy: what the operator can do.
        since: when it began, where that is known.
        next_try_at: when the node tries again by itself.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    since: float | None = None
    next_try_at: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: the code of what it finds, unless the finding brings its own.
        remedy: what to do, unless the finding brings its own.
        find: what is wrong in the status, None or nothing where all is well.
    """

    name: str
    severity: Severity
    remedy: str
    find: Callable[[Status], str | Trouble | tuple[Trouble, ...] | None]


def problems(status: Status) -> tuple[Problem, ...]:
    """All that is wrong, errors first, else in the order of the checks; one code is told once, its first time."""
    found: dict[str, Problem] = {}
    for problem in _found(status):
        found.setdefault(problem.code, problem)
    return tuple(sorted(found.values(), key=lambda problem: problem.severity is not Severity.ERROR))


def _found(status: Status) -> Iterator[Problem]:
    for check in CHECKS:
        match check.find(status):
            case None:
                continue
            case str() as message:
                yield Problem(check.name, check.severity, message, check.remedy)
            case Trouble() as trouble:
                yield _problem(check, trouble)
            case troubles:
                yield from (_problem(check, trouble) for trouble in troubles)


def _problem(check: Check, trouble: Trouble) -> Problem:
    return Problem(trouble.code, check.severity, trouble.message, trouble.remedy, trouble.since, trouble.next_try_at)


def _engine_failed(status: Status) -> str | Trouble | None:
    engine = status.engine
    if engine.state is not EngineState.FAILED:
        return None
    return engine.failure or "The engine has failed, and no cause is known"


def _engine_restarting(status: Status) -> Trouble | None:
    engine = status.engine
    failure = engine.failure
    if engine.state is EngineState.BACKOFF:
        doing = "The engine ended and is started again"
    elif engine.state is EngineState.STARTING and failure is not None:
        doing = "The engine ended and starts again"
    else:
        return None
    if failure is None:
        return Trouble("engine-restarting", doing, "See the log for its last lines.", engine.since, engine.next_try_at)
    return Trouble(failure.code, f"{doing}: {failure.message}", failure.remedy, engine.since, engine.next_try_at)


def _engine_stuck(status: Status) -> str | None:
    stuck = status.engine.stuck
    return None if stuck is None else f"The engine makes no progress: {stuck} does not answer"


def _engine_unconfined(status: Status) -> str | None:
    sandbox = status.engine.sandbox
    if sandbox is None:
        return None
    lacking = [f"{each.name} ({each.detail})" for each in sandbox.layers if not each.active and each.name in CONFINING]
    return f"The engine runs without parts of its sandbox: {', '.join(lacking)}" if lacking else None


def _engine_overlaps(status: Status) -> str | None:
    sandbox = status.engine.sandbox
    if sandbox is None or not sandbox.overlaps:
        return None
    return f"The sandbox leaves open to the engine what it should hide: {'; '.join(sandbox.overlaps)}"


def _node(status: Status) -> Trouble | None:
    return status.node.trouble


def _oracle(status: Status) -> Trouble | None:
    return status.oracle.trouble if status.oracle.enabled else None


def _announcing(status: Status) -> Trouble | None:
    return status.oracle.announcing if status.oracle.enabled else None


def _reports_late(status: Status) -> str | None:
    oracle = status.oracle
    if not oracle.enabled:
        return None
    silent = status.at - (oracle.last_accepted_at or status.node.started_at)
    if silent <= MISSED_REPORTS * oracle.interval_s + SKEW_LIMIT_S:
        return None
    behind = status.usage.total.tokens - oracle.tokens_reported
    return f"The Oracle has accepted no report for {duration(silent)}; {behind} tokens are not reported yet"


def _clock_skew(status: Status) -> str | None:
    skew = status.oracle.clock_skew_s
    if skew is None or abs(skew) < SKEW_LIMIT_S:
        return None
    return f"This machine's clock is {duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the Oracle's"


def _chain(status: Status) -> tuple[Trouble, ...]:
    return status.chain.troubles if status.chain.enabled else ()


def _not_registered(status: Status) -> str | None:
    if not status.chain.enabled or status.chain.registered is not False:
        return None
    return f"The agent {status.wallet.agent} is not registered on chain {status.chain.chain_id}"


def _heartbeat_late(status: Status) -> str | None:
    chain = status.chain
    if not (chain.enabled and chain.heartbeats_due and chain.registered):
        return None
    # Heartbeats are due from when the engine serves, which may be long after the daemon started.
    silent = status.at - max(chain.last_heartbeat_at or 0.0, status.engine.since, status.node.started_at)
    if silent <= DEAD_AFTER_S:
        return None
    return f"No heartbeat was mined for {duration(silent)}, so the chain calls the agent dead"


def _balance_low(status: Status) -> str | None:
    chain = status.chain
    if not chain.enabled or chain.balance_wei is None or chain.balance_wei >= chain.low_balance_wei:
        return None
    return (
        f"The agent {status.wallet.agent} has {amount(chain.balance_wei)} left, "
        f"less than the {amount(chain.low_balance_wei)} to warn at"
    )


CHECKS: tuple[Check, ...] = (
    Check("engine-failed", Severity.ERROR, "See the log for the engine's last lines.", _engine_failed),
    Check("engine-stuck", Severity.ERROR, "Nothing, it is ended and started again.", _engine_stuck),
    Check("engine-restarting", Severity.WARNING, "See the log for the engine's last lines.", _engine_restarting),
    Check(
        "engine-unconfined",
        Severity.WARNING,
        "Boot a kernel with Landlock and seccomp, and let the unit's system call filter allow them (docs/sandbox.md).",
        _engine_unconfined,
    ),
    Check(
        "sandbox-overlap",
        Severity.WARNING,
        "Keep state and secrets in directories of their own, apart from those that are named.",
        _engine_overlaps,
    ),
    Check("node-trouble", Severity.ERROR, "See the log.", _node),
    Check("oracle-trouble", Severity.WARNING, "See the log.", _oracle),
    Check("announcement-refused", Severity.WARNING, "Check oracle.url and oracle.endpoint.", _announcing),
    Check(
        "reports-late",
        Severity.WARNING,
        "Check that oracle.url answers from this machine; nothing is lost, the totals are kept.",
        _reports_late,
    ),
    Check("clock-skew", Severity.WARNING, "Let this machine keep time by NTP: timedatectl set-ntp true.", _clock_skew),
    Check("chain-trouble", Severity.WARNING, "See the log.", _chain),
    Check(
        "not-registered",
        Severity.WARNING,
        "Wait, it is registered by itself; if not, check its balance and chain.rpc_urls.",
        _not_registered,
    ),
    Check("heartbeat-late", Severity.ERROR, "Check chain.rpc_urls, the agent's balance and the log.", _heartbeat_late),
    Check("balance-low", Severity.WARNING, "Send it some PLM for gas.", _balance_low),
)
"""Every check, in the order in which findings of one severity are told."""
