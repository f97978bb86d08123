"""Entry point: reads the job from standard input, serves, and says why it ended.

Exit status: 0 after an ordered stop, 78 when another start cannot help, 70 after any other failure.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Final

from plumised.ipc.channel import Channel
from plumised.ipc.job import EngineJob, JobError
from plumised.ipc.messages import PROTOCOL, Failure, Hello, Refused, Role
from plumised.petals.compat import apply as apply_compatibility
from plumised.petals.compat import wrong_versions
from plumised.petals.deferring import defer
from plumised.petals.failures import CRASHED, EXIT_FAILURE, EXIT_PERMANENT, EngineError, describe
from plumised.petals.identity import make_identity
from plumised.petals.lifeline import die_with_parent, fall_silent, kill_children, name_process
from plumised.petals.ports import check_ports
from plumised.petals.reporting import StateReporter
from plumised.petals.sandbox.entering import check, close_descriptors, enter
from plumised.petals.settings import clear_runtime_dir, prepare_process
from plumised.petals.stopping import Stopper

_CLOSE_TIMEOUT_S: Final = 3.0
logger = logging.getLogger("plumised.petals")


def main() -> int:
    """Run the engine. Returns its exit status."""
    parent = os.getppid()
    try:
        job = EngineJob.from_json(sys.stdin.read())
    except JobError as error:
        sys.stderr.write(f"plumised.petals: {error}\n")
        return EXIT_PERMANENT
    close_descriptors()
    # What hinders it is told later, by `preflight`, to the daemon.
    with contextlib.suppress(OSError, ImportError):
        make_identity(job.identity_file)
    # Before anything that came from elsewhere is looked at, and before there is a second thread.
    sandbox = enter(job)
    stopper = Stopper()
    stopper.listen()
    die_with_parent(parent, signal.SIGINT)
    name_process("plumise-engine")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # Advice to the authors of petals and its dependencies; operators can do nothing about it.
    warnings.simplefilter("ignore")

    hello = Hello(PROTOCOL, job.incarnation, Role.MAIN, 0, os.getpid())
    channel = Channel(Path(job.socket), hello, on_refused=functools.partial(_on_refused, stopper))
    channel.publish(sandbox)
    channel.start()
    states = StateReporter(channel.publish)
    stopper.start(functools.partial(_leave, job, channel, states))
    status = 0
    try:
        check(job, sandbox)
        _serve(job, channel, states, stopper)
    except Exception as error:
        failure = describe(error)
        if failure.code == CRASHED:
            logger.exception("The engine ends")
        status = _report(channel, failure)
    _finish(channel, states)
    return status


def _finish(channel: Channel, states: StateReporter) -> None:
    states.stopped()
    channel.close(_CLOSE_TIMEOUT_S)


def _leave(job: EngineJob, channel: Channel, states: StateReporter) -> None:
    """End now. What the engine has started dies first; whatever its main thread is doing is given up."""
    try:
        logger.info("Stopped without draining")
        _finish(channel, states)
        # They would fill the log with what becomes of processes whose parent has gone, and other threads here with what
        # becomes of a parent whose children have.
        fall_silent()
        kill_children()
        clear_runtime_dir(job)
    finally:
        os._exit(0)


def _on_refused(stopper: Stopper, refusal: Refused) -> None:
    logger.error("The daemon refuses this engine: %s (%s)", refusal.message, refusal.code)
    stopper.interrupt()


def _serve(job: EngineJob, channel: Channel, states: StateReporter, stopper: Stopper) -> None:
    prepare_process(job, os.environ)
    # p2pd's clients leave their sockets behind, torch its scratch. Registered before anything imports multiprocessing,
    # whose own clean-up in that directory thus comes first.
    atexit.register(clear_runtime_dir, job)
    if wrong := wrong_versions():
        found = ", ".join(f"{name} {version or 'missing'}" for name, version in sorted(wrong.items()))
        raise EngineError(
            "engine-environment",
            f"the engine's Python environment {sys.prefix} is not the one this engine was made for: {found}",
            "Install plumise-engine-petals, or point [engine] python to its interpreter.",
            permanent=True,
        )
    check_ports(job)

    # Imported here because they take seconds and read the variables that were just set.
    from plumised.petals.progress_counter import RuntimeProgress  # noqa: PLC0415 -- see above
    from plumised.petals.pulse import Pulse  # noqa: PLC0415 -- see above

    progress = RuntimeProgress()
    pulse = Pulse(channel.publish, progress)
    pulse.start()
    defer()
    apply_compatibility()
    from plumised.petals.server import Engine  # noqa: PLC0415 -- see above

    engine = Engine(job, states, pulse, progress, stopper)
    try:
        engine.run()
    finally:
        pulse.stop()


def _report(channel: Channel, failure: Failure) -> int:
    logger.error("%s (%s). %s", failure.message, failure.code, failure.remedy)
    channel.publish(failure)
    return EXIT_PERMANENT if failure.permanent else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
