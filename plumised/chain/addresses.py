"""Where things are on the Plumise chain (id 41956), and what calling them costs. Sources: docs/chain.md."""

from __future__ import annotations

from typing import Final

CHAIN_ID: Final = 41956
"""Of the main network. The test network is 419561."""

VERIFY_INFERENCE: Final = "0x0000000000000000000000000000000000000020"
REGISTER_AGENT: Final = "0x0000000000000000000000000000000000000021"
HEARTBEAT: Final = "0x0000000000000000000000000000000000000022"
CLAIM_REWARD: Final = "0x0000000000000000000000000000000000000023"

REWARD_POOL: Final = "0x0000000000000000000000000000000000001000"
"""The RewardPool contract."""

AGENT_REGISTRY: Final = "0xC9CF64344D22f02f6cDB8e7B5349f30E09F9043C"
"""The AgentRegistry contract of the main network. A registration at 0x21 does not put the agent there."""

VERIFY_INFERENCE_GAS: Final = 200_000
"""Gas limit; the call costs 50 000."""

REGISTER_AGENT_GAS: Final = 300_000
HEARTBEAT_GAS: Final = 100_000
CLAIM_REWARD_GAS: Final = 100_000
