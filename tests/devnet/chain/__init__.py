"""The devnet's chain: a real EVM (py-evm) behind a JSON-RPC port, with Plumise's precompiles and contracts.

In a test::

    async with DevChain(funds={agent: 10**18}) as chain:     # its own thread; url and admin are ready
        chain.url                                             # JSON-RPC, chain id 41956
        await chain.admin.set_mining(MiningMode.MANUAL)       # INSTANT (default) | INTERVAL | MANUAL
        await chain.admin.mine(3, empty=True)
        await chain.admin.set_fees(base_fee=5_000_001, below_base_fee=BelowBaseFee.REFUSE)
        await chain.admin.fault(FaultMode.LOSE_REPLY, "eth_sendRawTransaction", count=1)
        await chain.admin.wait_for(lambda: chain.admin.heartbeats(agent))

`Admin` is documented method by method; `model` holds what it takes and returns. DevChain takes funds (wei by address),
mining, interval_s, base_fee, min_tip, epoch_blocks, port, clock. With instant mining a transaction is in a block
before eth_sendRawTransaction answers.

As a program::

    python -m tests.devnet.chain --listen 127.0.0.1:0 --port-file PATH [--block-time S | --manual]
        [--fund ADDRESS=WEI …] [--base-fee WEI] [--min-tip WEI] [--epoch-blocks N] [--admin-port PORT]

PATH appears once both ports listen: the first line is the JSON-RPC port, the second the admin port, to be used with
`Admin("http://127.0.0.1:PORT")`. SIGTERM and SIGINT end it with status 0.
"""

from __future__ import annotations

from tests.devnet.chain.admin import Admin, AdminError
from tests.devnet.chain.blockchain import CHAIN_ID
from tests.devnet.chain.devchain import DevChain
from tests.devnet.chain.mempool import BelowBaseFee
from tests.devnet.chain.model import FaultMode, MiningMode, RewardSource

__all__ = ["CHAIN_ID", "Admin", "AdminError", "BelowBaseFee", "DevChain", "FaultMode", "MiningMode", "RewardSource"]
