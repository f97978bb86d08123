"""Sends proofs of served requests to precompile 0x20: some of them, at a bounded pace and cost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Never, Protocol

from plumised.chain import calldata
from plumised.chain.addresses import VERIFY_INFERENCE, VERIFY_INFERENCE_GAS
from plumised.chain.orders import Confirmed, Failed, Order, Outcome, Purpose
from plumised.chain.problem_board import ProblemBoard, Source
from plumised.chain.problems import ChainProblem
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.chain.timing import Timing
    from plumised.chain.transactions import TransactionQueue
    from plumised.ledger.records import JsonValue, Proof, StoredProof

_log = logging.getLogger(__name__)

_HOUR_S: Final = 3600.0

_IDLE_S: Final = 10.0
"""Between two looks whether proofs are to be sent."""


class ProofSource(Protocol):
    """Where proofs come from and the place in them is kept; the ledger. Every method may raise PlumisedError."""

    async def recent_proofs(self, after: int, limit: int) -> tuple[StoredProof, ...]:
        """Return the newest `limit` proofs whose id is greater than `after`, oldest first."""

    async def fact(self, key: str) -> JsonValue:
        """Return what was set last, or None."""

    async def set_fact(self, key: str, value: JsonValue) -> None:
        """Remember `value`. Durable on return."""


@dataclass(frozen=True, slots=True)
class ProvingPolicy:
    """How many, and at what cost.

    Attributes:
        per_hour: proofs sent within any hour, at most.
        most_cost_wei: what one may cost, at most.
        look_s: between two looks for a proof, in seconds.
    """

    per_hour: int = 6
    most_cost_wei: int = 10**15
    look_s: float = 10.0

    @property
    def spacing_s(self) -> float:
        """Seconds between two proofs."""
        return _HOUR_S / self.per_hour

    @property
    def fee_cap(self) -> int:
        """Wei per gas under which a proof stays within its cost, were all of its gas used."""
        return self.most_cost_wei // VERIFY_INFERENCE_GAS


@dataclass(frozen=True, slots=True)
class Place:
    """How far the proofs are sent.

    Attributes:
        proof: id of the last one that was sent or passed over; 0 before the first.
        at: when one was sent or tried last, seconds since the epoch; None before the first.
    """

    proof: int = 0
    at: float | None = None

    def wait_s(self, now: float, spacing_s: float) -> float:
        """Return how long to wait before the next one; never longer than the spacing, wherever the clock was set."""
        return 0.0 if self.at is None else max(0.0, min(spacing_s, self.at + spacing_s - now))


@dataclass(frozen=True, slots=True)
class ProvingTally:
    """The proofs of this process on chain, those that an earlier one signed included.

    Attributes:
        verified: mined with success.
        cost_wei: of all that were mined.
        last_hash: transaction of the last verified one, or None.
    """

    verified: int = 0
    cost_wei: int = 0
    last_hash: str | None = None


class Prover:
    """Sends one proof after the other.

    A proof is marked as sent before it is sent: after a crash in between it is left out, for 0x20 would take, and be
    paid for, the same proof twice. Where more proofs arrive than may be sent, the newest are.

    Args:
        queue: sends the transactions.
        source: the ledger.
        agent: checksummed address; 0x20 takes an agent's proofs from itself only.
        chain_id: of the chain.
        registered: whether the agent is registered, as far as is known.
        policy: pace and cost; None while no proofs are to be sent.
        board: is told what is wrong.
        timing: time and chance.

    Attributes:
        tally: what was sent.
    """

    def __init__(
        self,
        *,
        queue: TransactionQueue,
        source: ProofSource,
        agent: str,
        chain_id: int,
        registered: Callable[[], bool],
        policy: ProvingPolicy | None,
        board: ProblemBoard,
        timing: Timing,
    ) -> None:
        self.tally = ProvingTally()
        self._queue = queue
        self._source = source
        self._agent = agent
        self._key = f"chain.proofs.{chain_id}.{agent}"
        self._registered = registered
        self._policy = policy
        self._board = board
        self._timing = timing

    def adopt(self, policy: ProvingPolicy | None) -> None:
        """Send proofs by this policy from the next look on."""
        self._policy = policy

    async def run(self) -> Never:
        """Send proofs until cancelled. May be called again."""
        while True:
            policy = self._policy
            if policy is None:
                self._board.report(Source.PROOFS, None)
                await self._timing.sleep(_IDLE_S)
            else:
                await self._timing.sleep(await self._turn(policy))

    async def _turn(self, policy: ProvingPolicy) -> float:
        """Send a proof, if one is due; return how long to wait before the next look."""
        pause_s = policy.look_s
        try:
            place = await self._place()
            left_s = place.wait_s(self._timing.clock(), policy.spacing_s)
            if left_s > 0:
                pause_s = min(pause_s, left_s)
            elif self._registered():
                self._report(await self._send_next(place, policy), policy)
        except PlumisedError as error:
            self._report(ChainProblem.of(error), policy)
        return pause_s

    def settled(self, outcome: Outcome) -> ChainProblem | None:
        """Count a proof that has come to its end; return why it is not on chain, or None."""
        if isinstance(outcome, Failed):
            return outcome.problem
        self.tally = replace(self.tally, cost_wei=self.tally.cost_wei + outcome.cost_wei)
        if isinstance(outcome, Confirmed):
            self.tally = replace(self.tally, verified=self.tally.verified + 1, last_hash=outcome.hash)
            return None
        return ChainProblem(
            "proof-reverted", f"A proof was mined and refused: {outcome.hash}", "Look the transaction up."
        )

    async def _send_next(self, place: Place, policy: ProvingPolicy) -> ChainProblem | None:
        """Send the next proof, if there is one."""
        waiting = await self._source.recent_proofs(place.proof, policy.per_hour)
        if not waiting:
            return self._board.of(Source.PROOFS)
        chosen, now = waiting[0], self._timing.clock()
        await self._keep(Place(chosen.id, now))
        try:
            outcome = await self._queue.submit(self._order(chosen.proof, policy))
        except PlumisedError as error:
            outcome = Failed(ChainProblem.of(error))
        if isinstance(outcome, Failed) and outcome.hash is None and outcome.problem.code != "transaction-would-fail":
            # No node has seen it, so it is this one's turn again.
            await self._keep(Place(place.proof, now))
        problem = self.settled(outcome)
        if problem is None:
            verified = told(LogEvent.PROOF_VERIFIED, transaction=outcome.hash)
            _log.info("proof %s is on chain: %s", chosen.proof.key, outcome.hash, extra=verified)
        return problem

    def _order(self, proof: Proof, policy: ProvingPolicy) -> Order:
        data = calldata.verify_inference(
            _bytes(proof.model_hash),
            _bytes(proof.input_hash),
            _bytes(proof.output_hash),
            self._agent,
            proof.token_count,
        )
        return Order(Purpose.VERIFY, VERIFY_INFERENCE, data, VERIFY_INFERENCE_GAS, fee_cap=policy.fee_cap)

    def _report(self, problem: ChainProblem | None, policy: ProvingPolicy) -> None:
        if problem is not None:
            problem = replace(problem, retry_at=self._timing.clock() + policy.spacing_s)
        self._board.report(Source.PROOFS, problem)

    async def _place(self) -> Place:
        kept = await self._source.fact(self._key)
        if not isinstance(kept, dict):
            return Place()
        proof, at = kept.get("proof"), kept.get("at")
        return Place(proof if isinstance(proof, int) else 0, float(at) if isinstance(at, int | float) else None)

    async def _keep(self, place: Place) -> None:
        await self._source.set_fact(self._key, {"proof": place.proof, "at": place.at})


def _bytes(digits: str) -> bytes:
    return bytes.fromhex(digits.removeprefix("0x"))
