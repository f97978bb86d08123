"""How a call to the chain fails, told apart by what the caller can do about it."""

from __future__ import annotations

from plumised.errors import PlumisedError


class RpcError(PlumisedError):
    """A call to the chain did not give a usable answer."""

    code = "rpc"


class RpcUnreachableError(RpcError):
    """The endpoint gave no answer in time. Whether the call took effect is unknown."""

    code = "rpc-unreachable"


class RpcBadAnswerError(RpcError):
    """The endpoint answered something that the call cannot have as its answer."""

    code = "rpc-bad-answer"


class WrongChainError(RpcError):
    """The endpoint serves another chain."""

    code = "rpc-wrong-chain"


class NoUsableRpcError(RpcError):
    """None of the configured endpoints can be used at the moment."""

    code = "rpc-none-usable"


class RpcRefusedError(RpcError):
    """The endpoint understood the call and refused it with a JSON-RPC error.

    Attributes:
        number: the error's code.
        text: the error's message, cut to 300 characters.
    """

    code = "rpc-refused"

    def __init__(self, endpoint: str, method: str, number: int, text: str) -> None:
        self.number = number
        self.text = text[:300]
        super().__init__(
            f"{endpoint} refused {method}: {self.text} ({number})",
            "It is tried again; see docs/chain.md if this stays.",
        )


class RpcMethodMissingError(RpcRefusedError):
    """The endpoint does not have the method."""

    code = "rpc-method-missing"
