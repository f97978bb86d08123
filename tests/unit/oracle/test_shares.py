"""How much is reported: an Oracle that books differences ends with exactly the work that was served."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ledger import AcceptedReport, Figures, ReportInFlight
from plumised.oracle.formats import Dialect
from plumised.oracle.shares import Limits, average_latency_ms, lowered, next_share, unreported
from tests.devnet.oracle.booking import Account as Booked
from tests.devnet.oracle.booking import book
from tests.devnet.oracle.report import Report
from tests.unit.oracle.examples import NOW, accepted, account, books, flying, totals

LIMITS = Limits(tokens=1000, requests=2000, proofs=10)


class Books:
    """A ledger and an Oracle in memory: what is reported is accepted, and may be forgotten by the node."""

    def __init__(self, before: Booked) -> None:
        self.oracle = before
        self.before = (before.booked_tokens, before.booked_requests)
        self.tokens = self.requests = 0
        self.accepted: AcceptedReport | None = None
        self.agent_url = "http://one"
        self.greatest = 0
        self.unsettled: AcceptedReport | None = None

    def serve(self, tokens: int, requests: int) -> None:
        self.tokens += tokens
        self.requests += requests

    def report(self, *, answer_lost: bool) -> None:
        here = account(url=self.agent_url)
        share = next_share(books(totals(self.tokens, self.requests), self.accepted), here, LIMITS)
        self.greatest = max(self.greatest, share.tokens)
        stamp = self.oracle.last_timestamp + 1
        sent = Report("metrics-v1", "agent", share.tokens, share.requests, 0.0, 0, stamp)
        self.oracle = book(self.oracle, self.oracle, sent)
        known = accepted(share.base, share.covered, here)
        self.accepted, self.unsettled = (self.accepted, known) if answer_lost else (known, None)

    def move(self) -> None:
        """To another URL of the same Oracle, whose history tells first what became of the last report."""
        self.accepted, self.unsettled = self.unsettled or self.accepted, None
        self.agent_url += "x"

    def settle(self) -> None:
        here = account(url=self.agent_url)
        while unreported(books(totals(self.tokens, self.requests), self.accepted), here, LIMITS):
            self.report(answer_lost=False)


amounts = st.one_of(st.integers(0, 50), st.integers(0, 5000), st.sampled_from([999, 1000, 1001, 2000]))
events = st.lists(
    st.one_of(
        st.tuples(amounts, st.integers(0, 10)),
        st.just("report"),
        st.just("report, answer lost"),
        st.just("oracle moves"),
    ),
    max_size=25,
)
pasts = st.builds(
    Booked,
    st.just("agent"),
    booked_tokens=st.integers(0, 5000),
    booked_requests=st.integers(0, 50),
    last_tokens=st.integers(0, 5000),
    last_requests=st.integers(0, 50),
)


@given(pasts, events)
def test_what_is_booked_is_what_was_served_whatever_the_oracle_held_before(
    past: Booked, history: list[tuple[int, int] | str]
) -> None:
    both = Books(past)
    for event in history:
        match event:
            case "report":
                both.report(answer_lost=False)
            case "report, answer lost":
                both.report(answer_lost=True)
            case "oracle moves":
                both.move()
            case (int(tokens), int(requests)):
                both.serve(tokens, min(tokens, requests))
            case _:
                raise AssertionError(event)
    both.settle()
    assert both.oracle.booked_tokens - both.before[0] == both.tokens
    assert both.oracle.booked_requests - both.before[1] == both.requests
    assert both.greatest <= LIMITS.tokens


def test_a_count_begins_with_zero() -> None:
    share = next_share(books(totals(300, 2)), account(), LIMITS)
    assert (share.tokens, share.requests, share.average_latency_ms) == (0, 0, 0.0)
    assert share.leaves_out(totals(300, 2))


def test_a_count_that_was_begun_reports_everything_since_its_base() -> None:
    known = accepted(Figures(100, 1, 0), Figures(200, 2, 0))
    share = next_share(books(totals(300, 5, service_us=80_000), known), account(), LIMITS)
    assert (share.tokens, share.requests, share.average_latency_ms) == (200, 4, 20.0)
    assert not share.leaves_out(totals(300, 5))


def test_another_agent_is_not_credited_for_what_the_first_one_reported() -> None:
    known = accepted(Figures(), Figures(200, 2, 0))
    other = account(agent="0x0000000000000000000000000000000000000001")
    share = next_share(books(totals(300, 5), known), other, LIMITS)
    assert (share.base, share.tokens) == (Figures(200, 2, 0), 0)


def test_the_base_moves_once_the_limit_is_accepted_and_not_before() -> None:
    below = accepted(Figures(), Figures(990, 9, 0))
    assert next_share(books(totals(1100, 11), below), account(), LIMITS).tokens == 1000
    at = accepted(Figures(), Figures(1000, 9, 0))
    share = next_share(books(totals(1100, 11), at), account(), LIMITS)
    assert (share.base, share.tokens, share.requests) == (Figures(1000, 9, 0), 100, 2)


def test_the_oracles_own_cap_is_learnt_from_a_refusal() -> None:
    report = ReportInFlight(account(), NOW, "{}", Figures(), Figures(800, 8, 0))
    assert lowered(LIMITS, report, accepted(Figures(), Figures(700, 7, 0))).tokens == 700
    assert lowered(LIMITS, report, None).tokens == 400


def test_without_requests_there_is_no_latency() -> None:
    assert average_latency_ms(Figures(0, 0, 10)) == 0.0


def test_a_report_in_flight_is_unreported_work() -> None:
    done = accepted(Figures(), Figures(5, 5, 0))
    assert unreported(books(totals(5), done, flying()), account(), LIMITS)
    assert not unreported(books(totals(5), done), account(), LIMITS)
    assert unreported(books(totals(6), done), account(), LIMITS)


@pytest.mark.parametrize(
    ("dialect", "proofs", "expected"),
    [(Dialect.METRICS_V1, 10, True), (Dialect.METRICS_V1, 0, False), (Dialect.REPORT_V1, 10, False)],
)
def test_a_waiting_proof_is_unreported_where_reports_carry_proofs(
    dialect: Dialect, proofs: int, expected: bool
) -> None:
    here = account(dialect=dialect)
    reported = replace(books(totals(5), accepted(Figures(), Figures.of(totals(5)), here)), proofs_waiting=1)
    assert unreported(reported, here, replace(LIMITS, proofs=proofs)) is expected
