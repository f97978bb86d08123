"""One node: its parts, the order in which they start, and the order in which they stop.

Start: directories, wallet, ledger, control socket, metrics, engine, reports, chain. Stop: the engine first, so that no
work is done any more; then the final report, which covers all of it; then the chain, the sockets, the ledger and the
wallet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from typing import TYPE_CHECKING, Final

from plumised import __version__
from plumised.chain.agent import ChainAgent, Rhythm
from plumised.chain.claims import ClaimPolicy
from plumised.chain.flight import FlightPolicy
from plumised.chain.lock import WalletLock
from plumised.chain.proving import ProvingPolicy
from plumised.daemon.announcing import Announcements, endpoint_of, wanted
from plumised.daemon.by_hand import ByHand
from plumised.daemon.directories import prepare
from plumised.daemon.endurance import Endurance
from plumised.daemon.identity import open_identity
from plumised.daemon.job import engine_job, engine_launch, engine_places, engine_policy
from plumised.daemon.report import Parts, ledger_trouble, status_of
from plumised.engine.engine import Engine
from plumised.engine.snapshot import StateName
from plumised.errors import PlumisedError
from plumised.ledger import LedgerThread, Totals
from plumised.observe.control import ControlServer
from plumised.observe.metrics_server import MetricsServer
from plumised.observe.rendering import one_line
from plumised.observe.status import NodeStatus, Status
from plumised.oracle import Announcer, Dialect, OracleClient, Policy, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from plumised.chain.wallet import Wallet
    from plumised.config import Settings
    from plumised.daemon.directories import Places
    from plumised.ipc.messages import Usage
    from plumised.ledger import LedgerDamagedError, Proof
    from plumised.observe.deeds import Deed, RewardsAnswer
    from plumised.observe.notify import Notifier
    from plumised.observe.redaction import Redactor

_log: Final = logging.getLogger(__name__)

STATUS_INTERVAL_S: Final = 2.0
"""Between two looks at the status for systemd's STATUS line."""

FIRST_START_S: Final = 30.0
"""How long the engine's socket and first start may take; a start that fails counts as one."""

FINAL_REPORT_S: Final = 10.0
"""How long the final report may take; TimeoutStopSec of the unit leaves room for it."""


class Node:
    """The composition root. Give it checked settings and run it once.

    Args:
        settings: as checked.
        redactor: keeps secrets out of the log.
        notifier: tells systemd.
        credentials: directory of systemd credentials, or None.
    """

    def __init__(self, settings: Settings, redactor: Redactor, notifier: Notifier, credentials: Path | None) -> None:
        self._settings = settings
        self._redactor = redactor
        self._notifier = notifier
        self._credentials = credentials
        self._started_at = time.time()
        self._stop_wanted = asyncio.Event()
        self._damage: LedgerDamagedError | None = None
        self._totals = Totals()
        self._ledger: LedgerThread
        self._engine: Engine
        self._wallet: Wallet | None = None
        self._reporter: Reporter | None = None
        self._reporting: Endurance | None = None
        self._announcements: Announcements | None = None
        self._chain: ChainAgent | None = None
        self._chaining: Endurance | None = None

    def stop(self) -> None:
        """Have the node stop in order; `run` returns when it has."""
        self._stop_wanted.set()

    def restart_engine(self) -> None:
        """Have the engine stopped and started again."""
        self._engine.restart()

    async def rewards(self) -> RewardsAnswer:
        """What the chain says of the agent's rewards. Raises PlumisedError where it cannot be asked."""
        return await self._by_hand().rewards()

    async def claim(self, *, dry_run: bool) -> Deed:
        """Claim rewards, or find out what that would bring. Raises PlumisedError where the chain cannot be asked."""
        return await self._by_hand().claim(dry_run=dry_run)

    async def register(self, *, registry: bool, dry_run: bool) -> Deed:
        """Have the agent registered. Raises PlumisedError where the chain cannot be asked."""
        return await self._by_hand().register(registry=registry, dry_run=dry_run)

    def _by_hand(self) -> ByHand:
        return ByHand(self._chain, self._settings.rewards)

    def status(self) -> Status:
        """Where everything stands, from memory."""
        node = NodeStatus(
            name=self._settings.node.name,
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            stopping=self._stop_wanted.is_set(),
            trouble=ledger_trouble(self._ledger.health()),
        )
        parts = Parts(
            engine=self._engine.snapshot(),
            totals=self._totals,
            ledger=self._ledger.health(),
            reporter=self._reporter.snapshot() if self._reporter else None,
            chain=self._chain.snapshot() if self._chain else None,
            agent=self._wallet.address if self._wallet else None,
            oracle_fault=self._reporting.fault if self._reporting else None,
            chain_fault=self._chaining.fault if self._chaining else None,
        )
        return status_of(time.time(), node, self._settings, parts)

    async def record_usage(self, incarnation: str, handler: str, usage: Usage) -> None:
        """Keep the counters of one handler (see `plumised.engine.usage.UsageSink`)."""
        self._totals = await self._ledger.record_usage(incarnation, handler, usage)

    async def add_proofs(self, proofs: Iterable[Proof]) -> None:
        """Keep proofs of requests that were counted (see `plumised.engine.usage.UsageSink`)."""
        await self._ledger.add_proofs(proofs)

    async def close_incarnation(self, incarnation: str) -> None:
        """No handler of this incarnation counts any more (see `plumised.engine.usage.UsageSink`)."""
        self._totals = await self._ledger.close_incarnation(incarnation)

    async def run(self) -> None:
        """Run the node until `stop`.

        Raises:
            OperatorError: something that only the operator can change.
            LedgerDamagedError: the ledger's file is damaged. The node has stopped in order; the next one sets the file
                aside and takes what the engine served last from its tallies.
        """
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            places = await asyncio.to_thread(prepare, settings.node)
            if settings.oracle.enabled or settings.chain.enabled:
                await self._open_wallet(stack)
            self._ledger = await stack.enter_async_context(await LedgerThread.open(places.ledger, time.time))
            self._totals = await self._ledger.totals()
            self._build(places)
            await stack.enter_async_context(ControlServer(settings.node.control_socket, self))
            if settings.metrics.listen is not None:
                listen = settings.metrics.listen
                await stack.enter_async_context(MetricsServer(listen.host, listen.port, self.status))
            await self._work()
        if self._damage is not None:
            raise self._damage

    async def _open_wallet(self, stack: contextlib.AsyncExitStack) -> None:
        wallet = self._settings.wallet
        stack.enter_context(WalletLock(wallet.keystore))
        self._wallet = await asyncio.to_thread(open_identity, wallet, self._credentials, self._redactor)
        _log.info("agent %s", self._wallet.address)

    def _build(self, places: Places) -> None:
        settings = self._settings
        self._engine = Engine(
            engine_launch(settings.engine, places),
            lambda incarnation: engine_job(settings, places, incarnation),
            engine_places(places),
            self,
            engine_policy(settings.engine),
        )
        if self._wallet is None:
            return
        if settings.oracle.enabled and settings.oracle.registration != "never":
            self._announcements = self._build_announcements(self._wallet)
        if settings.oracle.enabled:
            self._reporter = self._build_reporter(self._wallet)
            self._reporting = Endurance("Reporting", self._reporter.run, time.time)
        if settings.chain.enabled:
            self._chain = self._build_chain(self._wallet)
            self._chaining = Endurance("The chain's side", self._chain.run, time.time)

    def _build_reporter(self, wallet: Wallet) -> Reporter:
        oracle = self._settings.oracle
        return Reporter(
            client=OracleClient(oracle.url, timeout_s=oracle.timeout_s),
            dialect=None if oracle.dialect == "auto" else Dialect(oracle.dialect),
            signer=wallet,
            ledger=self._ledger,
            policy=Policy(interval_s=oracle.interval_s)
            if oracle.proofs
            else Policy(interval_s=oracle.interval_s, proofs_per_report=0),
            clock=time.time,
            monotonic=time.monotonic,
            random=random.random,
            on_unregistered=self._on_unregistered,
        )

    def _build_chain(self, wallet: Wallet) -> ChainAgent:
        chain, rewards = self._settings.chain, self._settings.rewards
        return ChainAgent(
            wallet=wallet,
            store=self._ledger,
            rpc_urls=chain.rpc_urls,
            chain_id=chain.chain_id,
            model=self._settings.engine.model,
            serving=self._heartbeats_are_true,
            fee_cap=chain.max_fee_wei,
            low_balance_wei=chain.low_balance_wei,
            registry=chain.agent_registry,
            reward_pool=chain.reward_pool,
            sponsor=self._announcements.announce if self._announcements else None,
            rpc_timeout_s=chain.rpc_timeout_s,
            rhythm=Rhythm(heartbeat_s=chain.heartbeat_interval_s),
            claiming=ClaimPolicy(rewards.auto_claim, rewards.threshold_wei, rewards.gas_factor),
            proving=ProvingPolicy(chain.verify_per_hour, chain.verify_max_cost_wei) if chain.verify_on_chain else None,
            policy=FlightPolicy(replace_after_s=chain.replace_after_s),
        )

    def _build_announcements(self, wallet: Wallet) -> Announcements:
        oracle = self._settings.oracle
        announcer = Announcer(
            client=OracleClient(oracle.url, timeout_s=oracle.timeout_s),
            signer=wallet,
            ledger=self._ledger,
            clock=time.time,
            monotonic=time.monotonic,
            timeout_s=oracle.registration_timeout_s,
        )
        return Announcements(
            announcer,
            self._settings.engine.model,
            lambda: endpoint_of(oracle.endpoint, self._engine.snapshot().addresses),
        )

    def _engine_serves(self) -> bool:
        return self._engine.snapshot().serving

    def _heartbeats_are_true(self) -> bool:
        return self._settings.chain.heartbeat_when == "always" or self._engine_serves()

    def _on_unregistered(self) -> None:
        if self._chain is not None:
            self._chain.request_registration()

    async def _work(self) -> None:
        """Everything between being built and being stopped."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._notifier.keep_watchdog(), name="watchdog")]
            engine = group.create_task(self._engine.run(), name="engine")
            reporting = group.create_task(self._reporting.run(), name="reports") if self._reporting else None
            if self._chaining is not None:
                tasks.append(group.create_task(self._chaining.run(), name="chain"))
            tasks.append(group.create_task(self._keep_saying(), name="status"))
            tasks.append(group.create_task(self._watch_ledger(), name="ledger"))
            oracle = self._settings.oracle
            if self._announcements is not None and wanted(oracle.registration, oracle.endpoint):
                announcing = self._announcements.announce_once_serving(self._engine_serves, random.random)
                tasks.append(group.create_task(announcing, name="announcement"))
            # From here on the engine's socket is open and its first start is under way.
            await self._engine.wait_for(lambda engine: engine.state is not StateName.IDLE, FIRST_START_S)
            self._notifier.ready(one_line(self.status()))
            await self._stop_wanted.wait()
            self._notifier.stopping("Stopping the engine")
            _log.info("stopping")
            self._engine.stop()
            await engine
            if self._reporter is not None and reporting is not None:
                await self._report_finally(self._reporter)
                reporting.cancel()
            for task in tasks:
                task.cancel()

    async def _watch_ledger(self) -> None:
        """A damaged file cannot be replaced beneath what uses it; starting anew can."""
        self._damage = await self._ledger.damaged()
        _log.error("%s", self._damage)
        self._stop_wanted.set()

    async def _report_finally(self, reporter: Reporter) -> None:
        self._notifier.status("Sending the final report")
        try:
            complete = await reporter.final_report(FINAL_REPORT_S)
        except PlumisedError as error:
            _log.warning("no final report: %s", error)
            return
        if not complete:
            _log.warning("not everything is reported; the rest stays in the ledger for the next start")

    async def _keep_saying(self) -> None:
        """Keep systemd's STATUS line true."""
        last = ""
        while True:
            line = one_line(self.status())
            if line != last:
                self._notifier.status(line)
                last = line
            await asyncio.sleep(STATUS_INTERVAL_S)
