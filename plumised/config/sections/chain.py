"""`[chain]`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from plumised.config import urls, values
from plumised.config.sections.section import WEI_PER_PLM, Section, scaled

MAINNET: Final = 41956
MAINNET_REGISTRY: Final = "0xC9CF64344D22f02f6cDB8e7B5349f30E09F9043C"
WEI_PER_GWEI: Final = 10**9

Address = Annotated[str, AfterValidator(values.address)]
RpcUrl = Annotated[str, AfterValidator(urls.rpc_url)]
RpcUrls = Annotated[tuple[RpcUrl, ...], BeforeValidator(values.array), AfterValidator(values.distinct)]


class ChainSettings(Section, frozen=True):
    """The chain: registration and heartbeats."""

    enabled: bool = Field(True, description="Register the node and send heartbeats.")
    rpc_urls: RpcUrls = Field(
        ("http://localhost:8545",), min_length=1, description="JSON-RPC endpoints, tried in this order."
    )
    chain_id: int = Field(
        MAINNET, ge=1, lt=2**53, description="Chain that every endpoint must serve; testnet is 419561."
    )
    rpc_timeout_s: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = Field(
        10.0, description="How long one JSON-RPC call may take, in seconds."
    )
    heartbeat_interval_s: Annotated[
        float, Field(ge=5, allow_inf_nan=False), AfterValidator(values.heartbeat_interval)
    ] = Field(
        120.0, description="Time between heartbeats, in seconds, below 300: by then the chain calls an agent dead."
    )
    heartbeat_when: Literal["serving", "always"] = Field(
        "serving", description="When to send heartbeats: serving (only while the engine serves) or always."
    )
    agent_registry: Address | None = Field(
        None,
        description="AgentRegistry contract, which rewards are paid through. By default mainnet's, on mainnet "
        f"(`{MAINNET_REGISTRY}`); none elsewhere.",
        examples=[MAINNET_REGISTRY],
    )
    reward_pool: Address = Field("0x0000000000000000000000000000000000001000", description="RewardPool contract.")
    max_fee_gwei: float = Field(
        10.0,
        gt=0,
        le=10**9,
        allow_inf_nan=False,
        description="Highest fee per unit of gas that a transaction may offer, replacements included, in gwei.",
    )
    replace_after_s: Annotated[float, Field(ge=5, le=3600, allow_inf_nan=False)] = Field(
        60.0,
        description="How long a transaction may stay unmined before one with a higher fee replaces it, in seconds.",
    )
    low_balance_plm: float = Field(
        0.01, ge=0, le=10**9, allow_inf_nan=False, description="Balance of the wallet below which to warn, in PLM."
    )
    verify_on_chain: bool = Field(False, description="Send proofs of served requests to the chain, too. Costs gas.")
    verify_per_hour: int = Field(6, ge=1, le=3600, description="Proofs sent to the chain in an hour at most.")
    verify_max_cost_plm: float = Field(
        0.001,
        gt=0,
        le=10**9,
        allow_inf_nan=False,
        description="What one proof on the chain may cost at most, in PLM; dearer ones wait.",
    )

    @property
    def max_fee_wei(self) -> int:
        """`max_fee_gwei` in wei."""
        return scaled(self.max_fee_gwei, WEI_PER_GWEI)

    @property
    def verify_max_cost_wei(self) -> int:
        """`verify_max_cost_plm` in wei."""
        return scaled(self.verify_max_cost_plm, WEI_PER_PLM)

    @property
    def low_balance_wei(self) -> int:
        """`low_balance_plm` in wei."""
        return scaled(self.low_balance_plm, WEI_PER_PLM)
