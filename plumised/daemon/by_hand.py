"""What an operator asks of the chain's side by hand, in the words that the control socket answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.chain.claims import Claimable, Claimed
from plumised.chain.problems import ChainProblem
from plumised.errors import PlumisedError
from plumised.observe.deeds import Deed, RewardsAnswer
from plumised.observe.wording import amount

if TYPE_CHECKING:
    from plumised.chain.agent import ChainAgent
    from plumised.chain.registry import Enrolled
    from plumised.config import RewardsSettings


class ChainOffError(PlumisedError):
    """The configuration switches the chain's side off."""

    code = "chain-off"


class ByHand:
    """The chain's side as an operator steers it.

    Args:
        chain: None where it is switched off.
        rewards: as configured.
    """

    def __init__(self, chain: ChainAgent | None, rewards: RewardsSettings) -> None:
        self._chain = chain
        self._rewards = rewards

    async def rewards(self) -> RewardsAnswer:
        """Ask the chain what the agent has earned.

        Raises:
            PlumisedError: it cannot be asked.
        """
        chain = self._on()
        said = await chain.rewards()
        claim = deed_of_claim(await chain.preview_claim())
        seen = chain.snapshot()
        return RewardsAnswer(
            agent=seen.agent,
            pending_wei=said.pending_wei,
            epoch=said.epoch,
            contribution=said.contribution,
            in_registry=seen.standing.registered if seen.standing else None,
            registry_active=seen.standing.active if seen.standing else None,
            automatic=self._rewards.auto_claim,
            threshold_wei=self._rewards.threshold_wei,
            claims=seen.claims.count,
            claimed_wei=seen.claims.wei,
            claim=claim,
        )

    async def claim(self, *, dry_run: bool) -> Deed:
        """Claim, or find out whether that would succeed. Raises PlumisedError where nothing can be asked."""
        chain = self._on()
        return deed_of_claim(await chain.preview_claim() if dry_run else await chain.claim())

    async def register(self, *, registry: bool, dry_run: bool) -> Deed:
        """Have the agent registered: in the AgentRegistry contract, or at 0x21, where the node does it by itself.

        Raises:
            PlumisedError: nothing can be asked.
        """
        chain = self._on()
        if registry:
            return deed_of_enrolment(await chain.enrol(dry_run=dry_run), dry_run=dry_run)
        seen = chain.snapshot()
        if seen.registered:
            return Deed(done=True, message=f"{seen.agent} is registered", transaction=seen.registration_hash)
        if not dry_run:
            chain.request_registration()
        return Deed(
            done=False,
            message=f"{seen.agent} is not registered yet; the node registers it by itself",
            code="not-registered",
            remedy="Wait with plumised wait --for registered; plumised status tells what hinders it.",
        )

    def _on(self) -> ChainAgent:
        if self._chain is None:
            raise ChainOffError("chain.enabled is false", "Switch it on and restart.")
        return self._chain


def deed_of_claim(answer: Claimable | Claimed | ChainProblem) -> Deed:
    """What came of a claim, or would."""
    match answer:
        case Claimable():
            cost = amount(answer.highest_cost_wei)
            return Deed(
                done=True,
                message=f"A claim would bring {amount(answer.wei)} for at most {cost} of gas",
                amount_wei=answer.wei,
                cost_wei=answer.highest_cost_wei,
            )
        case Claimed():
            brought = "A reward was claimed" if answer.wei is None else f"{amount(answer.wei)} claimed"
            return Deed(
                done=True,
                message=f"{brought} for {amount(answer.cost_wei)} of gas",
                transaction=answer.hash,
                amount_wei=answer.wei,
                cost_wei=answer.cost_wei,
            )
        case ChainProblem():
            return _undone(answer)


def deed_of_enrolment(answer: Enrolled | ChainProblem, *, dry_run: bool) -> Deed:
    """What came of an enrolment in the AgentRegistry, or would."""
    if isinstance(answer, ChainProblem):
        return _undone(answer)
    if not answer.did:
        return Deed(done=True, message="The AgentRegistry needs nothing more")
    if dry_run:
        return Deed(done=True, message=f"A transaction to {answer.did} would succeed")
    return Deed(done=True, message=f"Done: {answer.did}", transaction=answer.hash, cost_wei=answer.cost_wei)


def _undone(problem: ChainProblem) -> Deed:
    return Deed(done=False, message=problem.message, code=problem.code, remedy=problem.remedy)
