"""The parts that get work credited: reports, announcements, and the chain's side, with one wallet behind them."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from plumised.chain.agent import ChainAgent
from plumised.daemon.announcing import Announcements, endpoint_of
from plumised.daemon.endurance import Endurance
from plumised.daemon.terms import AnnouncingTerms, ReportingTerms, announcing_terms, chain_terms, reporting_terms
from plumised.oracle import Announcer, OracleClient, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.chain.wallet import Wallet
    from plumised.config import Settings
    from plumised.engine.snapshot import EngineSnapshot
    from plumised.ledger import LedgerThread


class Crediting:
    """Makes the parts that the settings switch on, and has them go by other settings later.

    Args:
        settings: as checked.
        wallet: of the agent.
        ledger: open.
        engine: the engine at the moment.

    Attributes:
        reporter: None where reports are switched off.
        reporting: runs the reporter.
        announcements: None where the node is not to be announced.
        chain: None where the chain's side is switched off.
        chaining: runs the chain's side.
    """

    def __init__(
        self, settings: Settings, wallet: Wallet, ledger: LedgerThread, engine: Callable[[], EngineSnapshot]
    ) -> None:
        self._settings = settings
        self._wallet = wallet
        self._ledger = ledger
        self._engine = engine
        oracle = settings.oracle
        self.reporter = self._new_reporter(reporting_terms(settings)) if oracle.enabled else None
        self.reporting = Endurance("Reporting", self.reporter.run, time.time) if self.reporter else None
        announced = oracle.enabled and oracle.registration != "never"
        self.announcements = self._new_announcements(announcing_terms(settings)) if announced else None
        self.chain = self._new_chain() if settings.chain.enabled else None
        self.chaining = Endurance("The chain's side", self.chain.run, time.time) if self.chain else None

    def adopt(self, settings: Settings) -> None:
        """Go by these settings from now on. They switch on what was on, and nothing else."""
        before, self._settings = self._settings, settings
        reporting, announcing, chain = reporting_terms(settings), announcing_terms(settings), chain_terms(settings)
        if self.reporter is not None and reporting != reporting_terms(before):
            self.reporter.adopt(client=_client(reporting), dialect=reporting.dialect, policy=reporting.policy)
        if self.announcements is not None and announcing != announcing_terms(before):
            self.announcements.adopt(
                self._announcer(announcing), announcing.model, self._endpoint, wanted=announcing.wanted
            )
        if self.chain is not None and chain != chain_terms(before):
            self.chain.adopt(chain)

    def _new_reporter(self, terms: ReportingTerms) -> Reporter:
        return Reporter(
            client=_client(terms),
            dialect=terms.dialect,
            signer=self._wallet,
            ledger=self._ledger,
            policy=terms.policy,
            clock=time.time,
            monotonic=time.monotonic,
            random=random.random,
            on_unregistered=self._on_unregistered,
        )

    def _new_announcements(self, terms: AnnouncingTerms) -> Announcements:
        return Announcements(self._announcer(terms), terms.model, self._endpoint, wanted=terms.wanted)

    def _announcer(self, terms: AnnouncingTerms) -> Announcer:
        return Announcer(
            client=OracleClient(terms.url, timeout_s=terms.timeout_s),
            signer=self._wallet,
            ledger=self._ledger,
            clock=time.time,
            monotonic=time.monotonic,
            timeout_s=terms.registration_timeout_s,
        )

    def _new_chain(self) -> ChainAgent:
        chain = self._settings.chain
        return ChainAgent(
            wallet=self._wallet,
            store=self._ledger,
            terms=chain_terms(self._settings),
            chain_id=chain.chain_id,
            serving=self._heartbeats_are_true,
            registry=chain.agent_registry,
            reward_pool=chain.reward_pool,
            sponsor=self.announcements.announce if self.announcements else None,
        )

    def _endpoint(self) -> str | None:
        return endpoint_of(self._settings.oracle.endpoint, self._engine().addresses)

    def _heartbeats_are_true(self) -> bool:
        return self._settings.chain.heartbeat_when == "always" or self._engine().serving

    def _on_unregistered(self) -> None:
        if self.chain is not None:
            self.chain.request_registration()


def _client(terms: ReportingTerms) -> OracleClient:
    return OracleClient(terms.url, timeout_s=terms.timeout_s)
