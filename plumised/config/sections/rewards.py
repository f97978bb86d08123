"""`[rewards]`."""

from __future__ import annotations

from pydantic import Field

from plumised.config.sections.section import WEI_PER_PLM, Section, scaled


class RewardsSettings(Section, frozen=True):
    """Rewards for the work."""

    auto_claim: bool = Field(False, description="Claim rewards by itself.")
    threshold_plm: float = Field(
        1.0, ge=0, le=10**9, allow_inf_nan=False, description="Reward above which to claim, in PLM."
    )
    gas_factor: float = Field(
        10.0,
        ge=1,
        le=10**6,
        allow_inf_nan=False,
        description="Claim by itself only what is at least so many times what the claim's gas can cost.",
    )

    @property
    def threshold_wei(self) -> int:
        """`threshold_plm` in wei."""
        return scaled(self.threshold_plm, WEI_PER_PLM)
