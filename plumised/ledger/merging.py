"""How counters that arrive twice, late or out of order become totals. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ipc.messages import Counters, Usage
from plumised.ledger.errors import ImplausibleUsageError
from plumised.ledger.records import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable

GREATEST = 2**53 - 1
"""The greatest plausible counter. Sums of a thousand of them still fit SQLite's 64 bit."""


def later(one: Counters, other: Counters) -> Counters:
    """The maximum of each counter: commutative, associative and idempotent."""
    return Counters(
        requests=max(one.requests, other.requests),
        steps=max(one.steps, other.steps),
        tokens=max(one.tokens, other.tokens),
        service_us=max(one.service_us, other.service_us),
    )


def later_usage(one: Usage, other: Usage) -> Usage:
    """What one handler served by the later of two messages, whichever came first."""
    return Usage(
        inference=later(one.inference, other.inference),
        forward=later(one.forward, other.forward),
        backward=later(one.backward, other.backward),
    )


def added(one: Counters, other: Counters) -> Counters:
    """The sum of two handlers' work."""
    return Counters(
        requests=one.requests + other.requests,
        steps=one.steps + other.steps,
        tokens=one.tokens + other.tokens,
        service_us=one.service_us + other.service_us,
    )


def total(usages: Iterable[Usage | Totals]) -> Totals:
    """The sum over handlers."""
    inference, forward, backward = Counters(), Counters(), Counters()
    for usage in usages:
        inference = added(inference, usage.inference)
        forward = added(forward, usage.forward)
        backward = added(backward, usage.backward)
    return Totals(inference=inference, forward=forward, backward=backward)


def require_plausible(incarnation: str, handler: str, usage: Usage) -> None:
    """Refuse counters that no machine can reach.

    Raises:
        ImplausibleUsageError: a counter is not between 0 and `GREATEST`.
    """
    counters = (usage.inference, usage.forward, usage.backward)
    if not all(0 <= n <= GREATEST for c in counters for n in (c.requests, c.steps, c.tokens, c.service_us)):
        raise ImplausibleUsageError(
            f"{handler} of {incarnation} sent a counter that no machine can reach",
            "report this as a bug; the work of the other handlers is counted",
        )
