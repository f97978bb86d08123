"""What the tables of node.toml have in common."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from plumised.config import urls, values

WEI_PER_PLM: Final = 10**18

AbsolutePath = Annotated[Path, BeforeValidator(values.absolute_path)]
Url = Annotated[str, AfterValidator(urls.url)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class Section(BaseModel, frozen=True, extra="forbid", strict=True):
    """A table of node.toml.

    Attributes:
        exclusive: pairs of keys of which at most one may be set.
    """

    exclusive: ClassVar[tuple[tuple[str, str], ...]] = ()


def scaled(amount: float, unit: int) -> int:
    """The amount in the smaller unit, from the decimal digits that the operator wrote."""
    return int(Decimal(repr(amount)) * unit)
