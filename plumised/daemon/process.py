"""The daemon's process: signals, log, exit status. Everything else is the node's business."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.chain.memory_guard import keep_memory_private
from plumised.daemon.loop_errors import LoopErrors
from plumised.daemon.node import Node
from plumised.events import LogEvent, told
from plumised.ledger import LedgerDamagedError
from plumised.observe.logs import Identity, configure, form_of
from plumised.observe.notify import Notifier
from plumised.observe.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plumised.config import Origin, Settings

_log: Final = logging.getLogger(__name__)

EXIT_RESTART: Final = 1
"""The daemon has stopped in order and asks to be started again, as systemd does after any failure but 78."""

RECURSION_LIMIT: Final = 1000
"""Python's own. An Ethereum library raises it to 100000 when it is imported, for computations that nobody does here;
a recursion that has no end would then overflow the stack and end the process, where it should be an exception."""


def run(settings: Settings, *, origin: Origin, environ: Mapping[str, str]) -> int:
    """Run the daemon until it is told to stop; returns its exit status: 0, or 1 where it asks for another start.

    Args:
        settings: checked.
        origin: where they were read, and are read again.
        environ: what systemd says: NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM, CREDENTIALS_DIRECTORY.

    Raises:
        OperatorError: something that only the operator can change; nothing runs then.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)
    redactor = Redactor()

    def log_as(wanted: Settings) -> None:
        form = form_of(wanted.log.format, environ.get("JOURNAL_STREAM"), sys.stderr.fileno())
        identity = Identity(wanted.node.name, origin.layout.instance)
        configure(wanted.log.level, form, sys.stderr, redactor, identity)

    log_as(settings)
    _log.info("node %s, configured by %s", settings.node.name, origin.file, extra=told(LogEvent.DAEMON_STARTING))
    keep_memory_private()
    notifier = Notifier(environ.get("NOTIFY_SOCKET"), environ.get("WATCHDOG_USEC"))
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    node = Node(settings, origin, redactor, notifier, Path(credentials) if credentials else None, log_as)
    try:
        asyncio.run(_until_told(node))
    except LedgerDamagedError as error:
        _log.critical("%s", error, extra=told(LogEvent.LEDGER_TROUBLE, reason=error.code))
        return EXIT_RESTART
    finally:
        notifier.close()
    _log.info("stopped", extra=told(LogEvent.DAEMON_STOPPED))
    return 0


async def _until_told(node: Node) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrors(time.monotonic))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    # Who closes the terminal that the daemon runs in wants it to end.
    loop.add_signal_handler(signal.SIGHUP, node.stop if sys.stderr.isatty() else node.reload_soon)
    await node.run()
