from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plumised.chain.addresses import VERIFY_INFERENCE_GAS
from plumised.chain.proving import Place, ProvingPolicy

HOUR_S = 3600.0


@given(st.integers(1, 3600), st.lists(st.floats(0, 2000), max_size=200))
def test_no_hour_has_more_proofs_than_are_allowed(per_hour: int, pauses: list[float]) -> None:
    spacing_s = ProvingPolicy(per_hour=per_hour).spacing_s
    now, place, sent = 1_770_000_000.0, Place(), []
    for pause_s in pauses:
        now += pause_s + place.wait_s(now + pause_s, spacing_s)
        place = Place(place.proof + 1, now)
        sent.append(now)
    for first in sent:
        assert sum(first <= at < first + HOUR_S - 1e-3 for at in sent) <= per_hour


@given(st.floats(0, 2e9), st.floats(0, 2e9), st.integers(1, 3600))
def test_clock_that_was_set_back_delays_a_proof_by_the_spacing_at_most(at: float, now: float, per_hour: int) -> None:
    spacing_s = ProvingPolicy(per_hour=per_hour).spacing_s
    assert 0 <= Place(1, at).wait_s(now, spacing_s) <= spacing_s


def test_first_proof_does_not_wait() -> None:
    assert Place().wait_s(1_770_000_000.0, 600.0) == 0


@given(st.integers(0, 10**20))
def test_cap_keeps_a_proof_within_its_cost_were_all_gas_used(most_cost_wei: int) -> None:
    assert ProvingPolicy(most_cost_wei=most_cost_wei).fee_cap * VERIFY_INFERENCE_GAS <= most_cost_wei
