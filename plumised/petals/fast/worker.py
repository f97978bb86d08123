"""The thread that computes the inference steps of a connection handler, for all of its sessions.

It takes turns: one pass with all short steps that wait, then one part of a long step, so that neither waits for more
than one of the other. A pass waits for other sessions' steps only where they are due, see `company`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from plumised.petals.fast.company import Company
from plumised.petals.fast.coverage import KERNEL_ROWS
from plumised.petals.fast.serving import Short, compute_together
from plumised.petals.fast.turns import Waiting, next_together

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from plumised.petals.fast.parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    prepare: Callable[[], Short | Parts]
    answer: asyncio.Future[tuple[torch.Tensor, ...]]
    session: Hashable
    came_at: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    answer: asyncio.Future[Any]
    result: tuple[torch.Tensor, ...] | BaseException | None


class Worker:
    """Computes steps in a thread of its own, which begins with `start`. Submitting is for one event loop's thread.

    Args:
        threads: of torch in its thread.
        clock: monotonic, in seconds.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._changed = threading.Condition()
        self._arrived: deque[_Task | asyncio.Future[None]] = deque()
        self._closed = False
        # The thread's own.
        self._company = Company()
        self._short: deque[tuple[_Task, Short]] = deque()
        self._long: deque[tuple[_Task, Parts]] = deque()
        # Whoever ends the process does not wait for a part that is being computed.
        self._thread = threading.Thread(target=self._run, name="plumised-steps", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Compute nothing more; what waits is given up. Waits this long for the part that is under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def submit(
        self, prepare: Callable[[], Short | Parts], session: Hashable = None
    ) -> asyncio.Future[tuple[torch.Tensor, ...]]:
        """Compute one step. To cancel the answer gives up what has not begun, or the rest of what has.

        Args:
            prepare: says how, called in the worker's thread when the step's turn has come.
            session: whose step it is; None for one that nobody waits for to come again.

        Returns:
            the hidden states, alone in a tuple, or the error.
        """
        answer: asyncio.Future[tuple[torch.Tensor, ...]] = asyncio.get_running_loop().create_future()
        self._put(_Task(prepare, answer, session, self._clock()))
        return answer

    def probe(self) -> asyncio.Future[None]:
        """Done when the thread has come to its next turn."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(answer)
        return answer

    def _put(self, item: _Task | asyncio.Future[None]) -> None:
        with self._changed:
            self._arrived.append(item)
            self._changed.notify()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while self._wait():
                self._take_arrived()
                if not self._more_are_due():
                    self._compute_short()
                    self._continue_long()

    def _wait(self) -> bool:
        """Wait until there is something to do; False when the worker is closed."""
        with self._changed:
            while not (self._closed or self._arrived or self._short or self._long):
                self._changed.wait()
            return not self._closed

    def _more_are_due(self) -> bool:
        """Whether the next pass is to have more steps; waits until some come, or for as long as it pays."""
        if not self._short or self._long or sum(short.step.rows for _, short in self._short) >= KERNEL_ROWS:
            return False
        now = self._clock()
        task, short = self._short[0]
        until = self._company.wait_until(short.span, task.came_at, now)
        if until is None:
            return False
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._closed or self._arrived), until - now)

    def _take_arrived(self) -> None:
        while self._arrived:
            item = self._arrived.popleft()
            if isinstance(item, asyncio.Future):
                _tell([_Outcome(item, None)])
            elif not item.answer.cancelled():
                self._prepare(item)

    def _prepare(self, task: _Task) -> None:
        try:
            prepared = task.prepare()
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            _tell([_Outcome(task.answer, error)])
            return
        if isinstance(prepared, Short):
            if task.session is not None:
                self._company.came(task.session, prepared.span, task.came_at)
            self._short.append((task, prepared))
        else:
            self._long.append((task, prepared))

    def _compute_short(self) -> None:
        self._short = deque(pair for pair in self._short if not pair[0].answer.cancelled())
        if not self._short:
            return
        waiting = [Waiting(short.span, short.step.rows) for _, short in self._short]
        chosen = next_together(waiting, KERNEL_ROWS)
        together = [self._short[position] for position in chosen]
        for position in reversed(chosen):
            del self._short[position]
        began_at = self._clock()
        try:
            results = compute_together([short for _, short in together])
        except Exception as error:  # noqa: BLE001 -- see above
            _tell([_Outcome(task.answer, error) for task, _ in together])
            return
        now = self._clock()
        self._company.passed(now - began_at)
        for task, _ in together:
            if task.session is not None:
                self._company.answered(task.session, now)
        _tell([_Outcome(task.answer, (result,)) for (task, _), result in zip(together, results, strict=True)])

    def _continue_long(self) -> None:
        if not self._long:
            return
        task, parts = self._long.popleft()
        if task.answer.cancelled():
            parts.close()
            return
        try:
            next(parts)
        except StopIteration as end:
            _tell([_Outcome(task.answer, (end.value,))])
        except Exception as error:  # noqa: BLE001 -- see above
            _tell([_Outcome(task.answer, error)])
        else:
            self._long.append((task, parts))


_LOOP_CLOSED: Final = "Event loop is closed"


def _tell(outcomes: list[_Outcome]) -> None:
    """Hand outcomes to the event loop that waits for them, if it still does."""
    try:
        outcomes[0].answer.get_loop().call_soon_threadsafe(_settle, outcomes)
    except RuntimeError as error:
        if _LOOP_CLOSED not in str(error):
            raise


def _settle(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.answer.done():
            continue
        if isinstance(outcome.result, BaseException):
            outcome.answer.set_exception(outcome.result)
        else:
            outcome.answer.set_result(outcome.result)
