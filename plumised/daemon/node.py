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
from functools import partial
from typing import TYPE_CHECKING, Final

from plumised import __version__
from plumised.chain.lock import WalletLock
from plumised.daemon.by_hand import ByHand
from plumised.daemon.crediting import Crediting
from plumised.daemon.directories import prepare
from plumised.daemon.endurance import Endurance
from plumised.daemon.engine_renewal import renewed
from plumised.daemon.identity import open_identity
from plumised.daemon.job import engine_job, engine_launch, engine_places, engine_policy
from plumised.daemon.reload_checks import problems
from plumised.daemon.reloading import Reloading
from plumised.daemon.report import Parts, ledger_trouble, status_of
from plumised.engine.engine import Engine
from plumised.engine.kinship import is_of_engine
from plumised.engine.snapshot import StateName
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told
from plumised.ledger import LedgerThread, Totals
from plumised.observe.control import ControlServer
from plumised.observe.metrics_server import MetricsServer
from plumised.observe.rendering import one_line
from plumised.observe.status import NodeStatus, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from plumised.chain.wallet import Wallet
    from plumised.config import Changes, ConfigProblem, Origin, Settings
    from plumised.daemon.directories import Places
    from plumised.ipc.messages import Usage
    from plumised.ledger import LedgerDamagedError, Proof
    from plumised.observe.deeds import Deed, RewardsAnswer
    from plumised.observe.notify import Notifier
    from plumised.observe.redaction import Redactor
    from plumised.observe.reloaded import Reloaded
    from plumised.oracle import Reporter

_log: Final = logging.getLogger(__name__)

STATUS_INTERVAL_S: Final = 2.0
"""Between two looks at the status for systemd's STATUS line."""

FIRST_START_S: Final = 30.0
"""How long the engine's socket and first start may take; a start that fails counts as one."""

FINAL_REPORT_S: Final = 10.0
"""How long the final report may take; TimeoutStopSec of the unit leaves room for it."""

AFTER_ENGINE_S: Final = 40.0
"""What a stop may take beside `engine.stop_timeout_s`: killing what is left, the final report, and closing all."""


class StoppingError(PlumisedError):
    """The daemon is about to end."""

    code = "control-stopping"


class Node:
    """The composition root. Give it checked settings and run it once.

    Args:
        settings: as checked.
        origin: where they are read again.
        redactor: keeps secrets out of the log.
        notifier: tells systemd.
        credentials: directory of systemd credentials, or None.
        log_as: has the log written as the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        origin: Origin,
        redactor: Redactor,
        notifier: Notifier,
        credentials: Path | None,
        log_as: Callable[[Settings], None],
    ) -> None:
        self._settings = settings
        self._origin = origin
        self._log_as = log_as
        self._redactor = redactor
        self._notifier = notifier
        self._credentials = credentials
        self._started_at = time.time()
        self._stop_wanted = asyncio.Event()
        self._damage: LedgerDamagedError | None = None
        self._totals = Totals()
        self._places: Places
        self._ledger: LedgerThread
        self._engine: Engine
        self._wallet: Wallet | None = None
        self._crediting: Crediting | None = None
        self._reloading = Reloading(origin, self)
        self._reload_wanted = asyncio.Event()

    def stop(self) -> None:
        """Have the node stop in order; `run` returns when it has."""
        self._stop_wanted.set()

    def restart_engine(self) -> None:
        """Have the engine stopped and started again."""
        self._engine.restart()

    @property
    def settings(self) -> Settings:
        """What the node goes by."""
        return self._settings

    def reload_soon(self) -> None:
        """Have the configuration read again once the node is up; what comes of it is in the log."""
        self._reload_wanted.set()

    async def reload(self) -> Reloaded:
        """Read the configuration again and go by it (see `plumised.daemon.reloading.Reloading`)."""
        if self._stop_wanted.is_set():
            raise StoppingError("The daemon stops, so its configuration is not read again", "Start it again.")
        self._notifier.status("Reading the configuration again")
        try:
            return await self._reloading.run()
        finally:
            self._notifier.status(one_line(self.status()))

    async def check(self, new: Settings, found: Changes) -> tuple[ConfigProblem, ...]:
        """What a start with these settings would refuse (see `plumised.daemon.reloading.Reloadable`)."""
        return await asyncio.to_thread(problems, self._origin.file, new, found, self._credentials)

    async def apply(self, new: Settings, found: Changes) -> None:
        """Go by these settings (see `plumised.daemon.reloading.Reloadable`)."""
        places = await asyncio.to_thread(prepare, new.node, new.swarm.identity_file) if found.engine else self._places
        # Nothing waits from here until all is told: a caller that goes away cannot leave half of it done.
        old, self._settings, self._places = self._settings, new, places
        self._log_as(new)
        before = self._engine.snapshot().incarnation
        self._engine.adopt(
            engine_launch(new.engine, places),
            partial(engine_job, new, places),
            engine_policy(new.engine),
            restart=bool(found.engine),
        )
        if self._crediting is not None:
            self._crediting.adopt(new)
        if found.engine:
            await renewed(self._engine, before, old.engine.stop_timeout_s + FIRST_START_S)

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
        return ByHand(self._crediting.chain if self._crediting else None, self._settings.rewards)

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
        credit = self._crediting
        parts = Parts(
            engine=self._engine.snapshot(),
            totals=self._totals,
            ledger=self._ledger.health(),
            reporter=credit.reporter.snapshot() if credit and credit.reporter else None,
            chain=credit.chain.snapshot() if credit and credit.chain else None,
            agent=self._wallet.address if self._wallet else None,
            oracle_fault=credit.reporting.fault if credit and credit.reporting else None,
            chain_fault=credit.chaining.fault if credit and credit.chaining else None,
            announcing=credit.announcements.trouble if credit and credit.announcements else None,
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
            places = self._places = await asyncio.to_thread(prepare, settings.node, settings.swarm.identity_file)
            if settings.oracle.enabled or settings.chain.enabled:
                await self._open_wallet(stack)
            self._ledger = await stack.enter_async_context(await LedgerThread.open(places.ledger, time.time))
            self._totals = await self._ledger.totals()
            self._build(places)
            closed_to = partial(is_of_engine, daemon=os.getpid())
            await stack.enter_async_context(ControlServer(settings.node.control_socket, self, closed_to))
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
        _log.info("agent %s", self._wallet.address, extra=told(LogEvent.WALLET_OPENED, agent=self._wallet.address))

    def _build(self, places: Places) -> None:
        settings = self._settings
        self._engine = Engine(
            engine_launch(settings.engine, places),
            partial(engine_job, settings, places),
            engine_places(places),
            self,
            engine_policy(settings.engine),
        )
        if self._wallet is not None:
            self._crediting = Crediting(settings, self._wallet, self._ledger, self._engine.snapshot)

    def _engine_serves(self) -> bool:
        return self._engine.snapshot().serving

    async def _work(self) -> None:
        """Everything between being built and being stopped."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._notifier.keep_watchdog(), name="watchdog")]
            engine = group.create_task(self._engine.run(), name="engine")
            credit = self._crediting
            reporting = (
                group.create_task(credit.reporting.run(), name="reports") if credit and credit.reporting else None
            )
            if credit is not None and credit.chaining is not None:
                tasks.append(group.create_task(credit.chaining.run(), name="chain"))
            if credit is not None and credit.announcements is not None:
                announcing = credit.announcements.run(self._engine_serves, random.random)
                tasks.append(group.create_task(announcing, name="announcements"))
            tasks.append(group.create_task(self._keep_saying(), name="status"))
            tasks.append(group.create_task(self._watch_ledger(), name="ledger"))
            # From here on the engine's socket is open and its first start is under way.
            await self._engine.wait_for(lambda engine: engine.state is not StateName.IDLE, FIRST_START_S)
            self._notifier.ready(one_line(self.status()))
            _log.info("ready", extra=told(LogEvent.DAEMON_READY))
            reloads = Endurance("Reloading", self._reload_when_told, time.time)
            tasks.append(group.create_task(reloads.run(), name="reloads"))
            await self._stop_wanted.wait()
            self._notifier.stopping(
                "Stopping the engine", within_s=self._settings.engine.stop_timeout_s + AFTER_ENGINE_S
            )
            _log.info("stopping", extra=told(LogEvent.DAEMON_STOPPING))
            self._engine.stop()
            await engine
            if credit is not None and credit.reporter is not None and reporting is not None:
                await self._report_finally(credit.reporter)
                reporting.cancel()
            for task in tasks:
                task.cancel()

    async def _reload_when_told(self) -> None:
        """Reload for each signal; several at once are one."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            # Nobody waits for the answer, and the log has it.
            with contextlib.suppress(PlumisedError):
                await self.reload()

    async def _watch_ledger(self) -> None:
        """A damaged file cannot be replaced beneath what uses it; starting anew can."""
        self._damage = await self._ledger.damaged()
        _log.error("%s", self._damage, extra=told(LogEvent.LEDGER_TROUBLE, reason=self._damage.code))
        self._stop_wanted.set()

    async def _report_finally(self, reporter: Reporter) -> None:
        self._notifier.status("Sending the final report")
        try:
            complete = await reporter.final_report(FINAL_REPORT_S)
        except PlumisedError as error:
            _log.warning("no final report: %s", error, extra=told(LogEvent.REPORT_FAILED, reason=error.code))
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
