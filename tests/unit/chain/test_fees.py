from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from plumised.chain.fees import DynamicFee, Fee, FeeMarket, LegacyFee, affordable, propose, raised

CAP = 10**10
wei = st.integers(0, 2 * CAP)
markets = st.builds(FeeMarket, base_fee=st.none() | wei, gas_price=wei, tip=st.none() | wei)
fees: st.SearchStrategy[Fee] = st.builds(LegacyFee, wei) | st.builds(
    lambda tip, rest: DynamicFee(tip + rest, tip), wei, wei
)


def test_dynamic_fee_leaves_room_for_the_base_fee_to_double() -> None:
    assert propose(FeeMarket(base_fee=5_000_000, gas_price=5_000_001, tip=1), CAP) == DynamicFee(10_000_001, 1)


def test_tip_is_taken_from_the_gas_price_where_none_is_suggested() -> None:
    assert propose(FeeMarket(base_fee=5_000_000, gas_price=5_000_007, tip=None), CAP) == DynamicFee(10_000_007, 7)


def test_chain_without_base_fee_gets_legacy_transactions() -> None:
    assert propose(FeeMarket(base_fee=None, gas_price=5_000_001, tip=None), CAP) == LegacyFee(5_000_001)


def test_chain_without_fees_is_paid_nothing() -> None:
    assert propose(FeeMarket(base_fee=0, gas_price=0, tip=0), CAP) == DynamicFee(0, 0)


def test_room_for_doubling_ends_at_the_cap() -> None:
    assert propose(FeeMarket(base_fee=7, gas_price=8, tip=1), 10) == DynamicFee(10, 1)


@given(markets, st.integers(0, 2 * CAP))
def test_proposal_is_within_the_cap_and_enough_for_the_next_block(market: FeeMarket, cap: int) -> None:
    fee = propose(market, cap)
    if fee is None:
        assert market.asked > cap
    else:
        assert market.asked <= fee.highest <= cap


@given(fees, markets, st.integers(0, 40 * CAP))
def test_replacement_pays_an_eighth_more_of_everything_within_the_cap(fee: Fee, market: FeeMarket, cap: int) -> None:
    dearer = raised(fee, market, cap)
    assume(dearer is not None)
    assert dearer is not None
    assert type(dearer) is type(fee)
    assert fee.highest < dearer.highest <= cap
    assert dearer.highest * 8 >= fee.highest * 9
    if isinstance(fee, DynamicFee) and isinstance(dearer, DynamicFee):
        assert dearer.tip > fee.tip
        assert dearer.tip * 8 >= fee.tip * 9
        assert dearer.tip <= dearer.max_fee


@given(fees, markets)
def test_replacement_pays_what_the_chain_asks_if_that_is_more(fee: Fee, market: FeeMarket) -> None:
    asked = propose(market, 100 * CAP)
    dearer = raised(fee, market, 100 * CAP)
    assert asked is not None
    assert dearer is not None
    assert dearer.highest >= asked.highest


def test_no_room_under_the_cap_means_no_replacement() -> None:
    assert raised(DynamicFee(10, 1), FeeMarket(base_fee=1, gas_price=2, tip=1), 11) is None
    assert raised(LegacyFee(10), FeeMarket(base_fee=None, gas_price=2, tip=None), 11) is None


def test_replacement_that_the_next_block_would_not_take_is_not_made() -> None:
    assert raised(DynamicFee(10, 1), FeeMarket(base_fee=100, gas_price=101, tip=1), 90) is None


def test_headroom_is_given_up_before_the_transaction_is() -> None:
    market = FeeMarket(base_fee=10, gas_price=11, tip=1)
    fee = DynamicFee(21, 1)
    assert affordable(fee, market, gas=100, balance=2_100) == fee
    assert affordable(fee, market, gas=100, balance=1_500) == DynamicFee(15, 1)
    assert affordable(fee, market, gas=100, balance=1_099) is None


def test_legacy_fee_has_no_headroom_to_give_up() -> None:
    market = FeeMarket(base_fee=None, gas_price=10, tip=None)
    assert affordable(LegacyFee(10), market, gas=100, balance=999) is None
    assert affordable(LegacyFee(10), market, gas=100, balance=1_000) == LegacyFee(10)
