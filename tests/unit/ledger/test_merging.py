"""Counters that are repeated, late or out of order make the same totals."""

import pytest
from hypothesis import given

from plumised.ipc.messages import Counters, Usage
from plumised.ledger import ImplausibleUsageError, Totals
from plumised.ledger.merging import GREATEST, later_usage, require_plausible, total
from tests.unit.ledger.histories import usages


@given(usages, usages)
def test_the_order_of_two_messages_does_not_matter(one: Usage, other: Usage) -> None:
    assert later_usage(one, other) == later_usage(other, one)


@given(usages, usages, usages)
def test_the_grouping_of_messages_does_not_matter(one: Usage, other: Usage, third: Usage) -> None:
    assert later_usage(later_usage(one, other), third) == later_usage(one, later_usage(other, third))


@given(usages)
def test_a_repeated_message_changes_nothing(usage: Usage) -> None:
    assert later_usage(usage, usage) == usage


@given(usages, usages)
def test_totals_are_the_sum_over_handlers(one: Usage, other: Usage) -> None:
    both = total([one, other])
    assert both.inference.tokens == one.inference.tokens + other.inference.tokens
    assert both.tokens == total([one]).tokens + total([other]).tokens
    assert both.requests == total([one]).requests + total([other]).requests
    assert both.service_us == total([one]).service_us + total([other]).service_us
    assert both.steps == both.inference.steps + both.forward.steps + both.backward.steps


def test_no_handlers_make_no_work() -> None:
    assert total([]) == Totals()


@pytest.mark.parametrize("counter", [-1, GREATEST + 1, 2**64])
def test_a_counter_that_no_machine_can_reach_is_refused(counter: int) -> None:
    with pytest.raises(ImplausibleUsageError, match="handler-0 of first"):
        require_plausible("first", "handler-0", Usage(Counters(), Counters(service_us=counter), Counters()))
