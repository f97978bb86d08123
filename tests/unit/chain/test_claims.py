from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plumised.chain import calldata
from plumised.chain.addresses import REWARD_POOL
from plumised.chain.answers import Event
from plumised.chain.claims import CLAIM_GAS, Claimable, worth
from plumised.chain.events import REWARD_CLAIMED, claimed_wei
from plumised.chain.problems import ChainProblem

AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
OTHER = "0x" + "11" * 20
wei = st.integers(0, 10**24)


def event(agent: str = AGENT, amount: int = 5, pool: str = REWARD_POOL, *, indexed: bool = True) -> Event:
    words = (calldata.address_word(agent), calldata.uint_word(amount))
    if indexed:
        return Event(pool.lower(), (REWARD_CLAIMED, words[0]), words[1])
    return Event(pool.lower(), (REWARD_CLAIMED,), b"".join(words))


@given(wei, st.integers(0, 10**12), st.integers(0, 10**12), st.floats(1, 1000))
def test_claim_costs_at_most_its_part_of_the_reward(pending: int, asked: int, cap: int, factor: float) -> None:
    answer = worth(pending, asked, cap, factor)
    if isinstance(answer, ChainProblem):
        assert pending == 0 or asked > cap or asked * CLAIM_GAS * factor >= pending * (1 - 1e-9)
    else:
        assert asked <= answer.fee_cap <= cap
        assert answer.fee_cap * CLAIM_GAS * factor <= pending * (1 + 1e-9)


def test_free_chain_makes_every_reward_worth_a_claim() -> None:
    assert isinstance(worth(1, 0, 10**10, 10.0), Claimable)


def test_event_tells_the_amount_whether_the_agent_is_indexed_or_not() -> None:
    assert claimed_wei([event()], REWARD_POOL, AGENT) == 5
    assert claimed_wei([event(indexed=False)], REWARD_POOL, AGENT) == 5


def test_events_of_other_contracts_agents_and_kinds_do_not_count() -> None:
    strangers = [event(OTHER), event(pool=OTHER), Event(REWARD_POOL, (), b""), Event(REWARD_POOL, (b"x" * 32,), b"")]
    assert claimed_wei(strangers, REWARD_POOL, AGENT) is None
    assert claimed_wei([*strangers, event(amount=7)], REWARD_POOL, AGENT) == 7
