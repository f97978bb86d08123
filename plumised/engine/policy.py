"""Every threshold of the engine's supervision, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """When the engine counts as stuck, how it is ended, and when it is started again. Times are in seconds.

    Attributes:
        tick_s: between two looks at the engine.
        stuck_s: a part of a serving engine that neither answers nor works for so long is stuck.
        starting_stuck_s: the same for the main process before it serves, when imports and loading hold it up.
        busy_limit_s: a part that works but does not advance for so long is stuck as well.
        start_timeout_s: most time without progress before the engine serves.
        absent_s: how long a handler of a serving engine may have no connection.
        working_cpu: share of one core from which a process counts as working.
        working_io_bytes_per_s: storage traffic from which a process counts as working.
        loading_io_bytes: storage traffic that counts as progress before the engine serves.
        stop_timeout_s: how long an ordered stop may take before the engine is killed.
        unhealthy_stop_s: the same for an engine that has lost a part but whose main process answers.
        kill_timeout_s: how long the kernel may take to end what was killed.
        first_backoff_s: longest wait before the second start; doubles with each failure.
        longest_backoff_s: where the doubling ends.
        crash_loop_failures: at least so many failures without a stable run between them are a crash loop,
        crash_loop_s: if there was so much time between the first and the last of them: a shortage that passes sooner
            may end many engines that have only begun.
        stable_s: a run that served so long is stable and clears the record of failures.
        failed_retry_s: wait before another try after a crash loop or a failure that is permanent.
        sink_retry_s: wait before usage that the ledger refused is offered again.
        proofs_s: between two looks at what a running engine has proven.
    """

    tick_s: float = 1.0
    stuck_s: float = 10.0
    starting_stuck_s: float = 30.0
    busy_limit_s: float = 600.0
    start_timeout_s: float = 600.0
    absent_s: float = 10.0
    working_cpu: float = 0.05
    working_io_bytes_per_s: float = 1e6
    loading_io_bytes: int = 1 << 20
    stop_timeout_s: float = 30.0
    unhealthy_stop_s: float = 3.0
    kill_timeout_s: float = 10.0
    first_backoff_s: float = 1.0
    longest_backoff_s: float = 60.0
    crash_loop_failures: int = 5
    crash_loop_s: float = 60.0
    stable_s: float = 120.0
    failed_retry_s: float = 600.0
    sink_retry_s: float = 5.0
    proofs_s: float = 5.0
