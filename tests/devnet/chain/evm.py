"""The virtual machine of the devnet (py-evm's Paris with the chain's native contracts) and its genesis.

Paris is the last fork whose blocks have neither withdrawals nor blobs: legacy, access-list and EIP-1559 transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eth.chains.base import MiningChain
from eth.vm.forks.paris import ParisVM
from eth.vm.forks.paris.computation import ParisComputation
from eth.vm.forks.paris.state import ParisState
from eth_tester.backends.pyevm.main import get_default_genesis_params, setup_tester_chain
from eth_typing import Address

from tests.devnet.chain.contracts import CONTRACTS, EPOCH_LENGTH_SLOT, REWARD_POOL
from tests.devnet.chain.precompiles import CLAIM_REWARD, PRECOMPILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eth.vm.state import BaseState

    from tests.devnet.chain.native import NativeCode

GAS_LIMIT: Final = 30_000_000
COINBASE: Final = bytes(19) + b"\xfe"
"""Takes the tips; a precompile's address would take them for calls."""

NATIVE_CODE: Final = b"\xfe"
"""What eth_getCode shows for a native contract: INVALID, so that the account is seen to be a contract."""

_PURSE_WEI: Final = 10**27


_NATIVE: Final[dict[Address, NativeCode]] = {Address(at): code for at, code in (PRECOMPILES | CONTRACTS).items()}


class DevnetComputation(ParisComputation):
    """Runs the native contracts beside Ethereum's own precompiles."""

    @property
    def precompiles(self) -> dict[Address, NativeCode]:
        return self.get_precompiles()

    @classmethod
    def get_precompiles(cls) -> dict[Address, NativeCode]:
        """Return the code of native accounts by address."""
        return super().get_precompiles() | _NATIVE


class DevnetState(ParisState):
    """State whose calls reach the native contracts."""

    computation_class = DevnetComputation


class DevnetVM(ParisVM):
    """Paris with the chain's precompiles and contracts."""

    _state_class: type[BaseState] = DevnetState


def genesis(
    *, chain_id: int, timestamp: int, base_fee: int, epoch_blocks: int, funds: Mapping[bytes, int]
) -> MiningChain:
    """Return a chain that has its genesis block only.

    Precompiles start with nonce 1, since an empty account would be cleared together with its storage, and those that
    pay rewards start with a purse.
    """
    account: dict[bytes, dict[str, Any]] = {
        at: {"balance": 0, "nonce": 1, "code": b"", "storage": {}} for at in PRECOMPILES
    }
    account |= {at: {"balance": 0, "nonce": 1, "code": NATIVE_CODE, "storage": {}} for at in CONTRACTS}
    for payer in (CLAIM_REWARD, REWARD_POOL):
        account[payer]["balance"] = _PURSE_WEI
    account[REWARD_POOL]["storage"] = {EPOCH_LENGTH_SLOT: epoch_blocks}
    account |= {at: {"balance": wei, "nonce": 0, "code": b"", "storage": {}} for at, wei in funds.items()}
    _, chain = setup_tester_chain(
        get_default_genesis_params({"timestamp": timestamp, "gas_limit": GAS_LIMIT, "coinbase": COINBASE})
        | {"base_fee_per_gas": base_fee},
        account,
        vm_configuration=((0, DevnetVM),),
    )
    if not isinstance(chain, MiningChain):
        raise TypeError("eth-tester made no chain")
    chain.chain_id = chain_id
    return chain
