"""Quantities in words, for people."""

from __future__ import annotations

WEI_PER_PLM = 10**18
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit, rounded down: `35 s`, `12 min`, `5 h`, `3 d`."""
    whole = max(0, int(seconds))
    if whole < 2 * MINUTE_S:
        return f"{whole} s"
    if whole < 2 * HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < 2 * DAY_S:
        return f"{whole // HOUR_S} h"
    return f"{whole // DAY_S} d"


def amount(wei: int) -> str:
    """An amount in PLM, exact: `1.5 PLM`, `0.000000000000000001 PLM`."""
    sign = "-" if wei < 0 else ""
    whole, rest = divmod(abs(wei), WEI_PER_PLM)
    fraction = f".{rest:018d}".rstrip("0") if rest else ""
    return f"{sign}{whole}{fraction} PLM"


def count(number: int) -> str:
    """A count with its thousands set apart: `12 345`."""
    return f"{number:,}".replace(",", " ")
