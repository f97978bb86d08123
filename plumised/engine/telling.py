"""What the log says of the supervision's states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from plumised.engine.causes import Cause
from plumised.engine.supervisor import Backoff, Failed, Serving, Starting, Stopping
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from plumised.engine.supervisor import Supervision

_log: Final = logging.getLogger(__name__)


def tell(supervision: Supervision, now: float, incarnation: str | None) -> None:
    """Log the state that was just entered.

    Args:
        supervision: as it is.
        now: on its clock.
        incarnation: of the engine that runs or ran last.
    """
    cause = supervision.cause
    match supervision.state:
        case Starting():
            _log.info("starting the engine", extra=told(LogEvent.ENGINE_STARTING))
        case Serving():
            _log.info("the engine serves", extra=told(LogEvent.ENGINE_SERVING, incarnation=incarnation))
        case Stopping(cause=Cause() as ailment):
            unhealthy = told(LogEvent.ENGINE_UNHEALTHY, reason=ailment.code, incarnation=incarnation)
            _log.warning("ending the engine: %s (%s)", ailment.message, ailment.code, extra=unhealthy)
        case Stopping():
            _log.info("stopping the engine", extra=told(LogEvent.ENGINE_STOPPING, incarnation=incarnation))
        case Backoff(until=until) | Failed(until=until) if cause is not None:
            _log.warning(
                "the engine failed: %s (%s). %s Next try in %.0f s.",
                cause.message,
                cause.code,
                cause.remedy,
                until - now,
                extra=told(
                    LogEvent.ENGINE_FAILED, reason=cause.code, incarnation=incarnation, retry_s=max(0.0, until - now)
                ),
            )
            for line in cause.evidence:
                _log.warning("its output: %s", line)
        case _:
            _log.info("no engine runs", extra=told(LogEvent.ENGINE_IDLE))
