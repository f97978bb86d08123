"""What a transaction pays: proposed from what the chain shows, raised for a replacement, never above the cap."""

from __future__ import annotations

from dataclasses import dataclass

BUMP_NUMERATOR = 9
BUMP_DENOMINATOR = 8
"""A replacement pays 12.5 % more: geth wants 10 %, others up to 12.5 %."""


@dataclass(frozen=True, slots=True)
class LegacyFee:
    """The fee of a transaction before EIP-1559: one price, paid in full.

    Attributes:
        gas_price: wei per gas.
    """

    gas_price: int

    @property
    def highest(self) -> int:
        """The most that one gas can cost, in wei."""
        return self.gas_price


@dataclass(frozen=True, slots=True)
class DynamicFee:
    """The fee of an EIP-1559 transaction.

    Attributes:
        max_fee: wei per gas at most, base fee and tip together.
        tip: wei per gas of it for the block's producer, at most.
    """

    max_fee: int
    tip: int

    @property
    def highest(self) -> int:
        """The most that one gas can cost, in wei."""
        return self.max_fee


Fee = LegacyFee | DynamicFee


@dataclass(frozen=True, slots=True)
class FeeMarket:
    """What the chain asks at the moment, all in wei per gas.

    Attributes:
        base_fee: `baseFeePerGas` of the latest block; None where blocks have none, so transactions are legacy ones.
        gas_price: what `eth_gasPrice` suggests.
        tip: what `eth_maxPriorityFeePerGas` suggests; None where it is not offered.
    """

    base_fee: int | None
    gas_price: int
    tip: int | None

    @property
    def wanted_tip(self) -> int:
        """What the block's producer wants of it."""
        return self.tip if self.tip is not None else max(self.gas_price - (self.base_fee or 0), 0)

    @property
    def asked(self) -> int:
        """What one gas costs in the next block, in wei."""
        return self.gas_price if self.base_fee is None else self.base_fee + self.wanted_tip


def propose(market: FeeMarket, cap: int) -> Fee | None:
    """Return the fee for a transaction that is to be mined soon.

    The dynamic fee leaves room for the base fee to double, as far as the cap allows it.

    Args:
        market: what the chain asks.
        cap: wei per gas that must never be exceeded.

    Returns:
        The fee, or None where what the chain asks is above the cap.
    """
    if market.base_fee is None:
        return LegacyFee(market.gas_price) if market.gas_price <= cap else None
    if market.asked > cap:
        return None
    return DynamicFee(max_fee=min(2 * market.base_fee + market.wanted_tip, cap), tip=market.wanted_tip)


def affordable(fee: Fee, market: FeeMarket, gas: int, balance: int) -> Fee | None:
    """Return `fee`, with less headroom where the balance asks for it.

    Args:
        fee: what `propose` said.
        market: what the chain asks.
        gas: the transaction's limit.
        balance: wei.

    Returns:
        A fee that `balance` covers and the next block takes, or None where there is none.
    """
    if gas * fee.highest <= balance:
        return fee
    most = balance // gas
    if isinstance(fee, LegacyFee) or market.base_fee is None or most < market.base_fee + fee.tip:
        return None
    return DynamicFee(max_fee=most, tip=fee.tip)


def raised(previous: Fee, market: FeeMarket, cap: int) -> Fee | None:
    """Return the fee of a replacement: above `previous` by what nodes demand, and what the chain asks if that is more.

    Args:
        previous: the fee of the transaction to be replaced; the replacement is of the same type.
        market: what the chain asks.
        cap: wei per gas that must never be exceeded.

    Returns:
        The fee, or None where the cap leaves no room for a replacement that nodes would take and the next block, too.
    """
    asked = propose(market, cap)
    if asked is None:
        return None
    if isinstance(previous, LegacyFee):
        price = max(_bumped(previous.gas_price), asked.highest)
        return LegacyFee(price) if price <= cap else None
    tip = max(_bumped(previous.tip), asked.tip if isinstance(asked, DynamicFee) else 0)
    max_fee = max(_bumped(previous.max_fee), asked.highest, tip)
    return DynamicFee(max_fee=max_fee, tip=tip) if max_fee <= cap else None


def _bumped(value: int) -> int:
    """Return `value` raised by an eighth, rounded up, and by one wei at least: nodes want strictly more even than 0."""
    return max(-(-value * BUMP_NUMERATOR // BUMP_DENOMINATOR), value + 1)
