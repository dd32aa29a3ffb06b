# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are changed side by side, each by a task of its own."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.outcome import Outcome, failed
from pyguixvm.apply.task import carry_out
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import Emit, Event, MachineEnded, Notice, ignore, undisturbed
from pyguixvm.interruption import Interruption, end_here_if_asked
from pyguixvm.plan.order import Order, Turn, next_turns
from pyguixvm.plan.plan import Plan, Trial

_ALL_AT_ONCE = Order()
_LEFT_HINT = "Deploy again when that is mended; what was done is left alone."
# So many rings are heard as one.
_RINGS = 4096


@dataclass(frozen=True)
class Task:
    """What is to be done with MACHINE: WORK returns what became of it.

    It is begun when those that it REQUIRES are done; at once, if it CHANGES nothing.
    """

    machine: str
    work: Callable[[], Outcome]
    requires: tuple[str, ...] = ()
    changes: bool = True


def apply(plan: Plan, workshop: Workshop, *, trial: Trial | None = None) -> tuple[Outcome, ...]:
    """Carry out PLAN, whose images are built; return what became of each machine.

    With TRIAL, a new root has to get ready in a throwaway copy before its machine
    is touched.  Otherwise as for `side_by_side`.
    """
    tasks = [
        Task(each.machine.name, partial(carry_out, each, plan.deployment, workshop, trial))
        for each in plan.machines
    ]
    return side_by_side(tasks, workshop.interruption, workshop.emit)


def side_by_side(
    tasks: Sequence[Task], interruption: Interruption, emit: Emit, order: Order = _ALL_AT_ONCE
) -> tuple[Outcome, ...]:
    """Do all of TASKS as ORDER lets them; return what became of their machines, in their order.

    Whatever fails for one machine, a defect too, does not stop the others.  Somebody who
    asks for the end by INTERRUPTION is waited for by none: each task ends at the next place
    where it can be taken up again.  Raises KeyboardInterrupt then, after all have ended, and
    EMIT is told what went wrong before.
    """
    # Of one alone, what became of it says as much.
    tell = undisturbed(emit) if len(tasks) > 1 else ignore
    with _bell() as (ring, heard):
        threads = [_Thread(task, interruption, tell, ring) for task in tasks]
        with interruption.left_to_others():
            while True:
                if not interruption.is_due():
                    _begin(threads, order)
                if not any(thread.goes_on for thread in threads):
                    break
                try:
                    heard()
                except KeyboardInterrupt:
                    # From where signals are not told to INTERRUPTION.
                    interruption.ask()
    for thread in threads:
        if thread.broken_off is not None and not isinstance(thread.broken_off, KeyboardInterrupt):
            raise thread.broken_off
    outcomes = tuple(each.outcome for each in threads if each.outcome is not None)
    if interruption.is_due() or len(outcomes) < len(threads):
        for outcome in outcomes:
            if outcome.error is not None:
                emit(Notice(outcome.error.message, outcome.machine, warning=True))
        raise KeyboardInterrupt
    return outcomes


def heeding(emit: Emit) -> Emit:
    """Return EMIT such that whatever is told is a place where the work of a thread may end."""

    def tell(event: Event) -> None:
        emit(event)
        end_here_if_asked()

    return tell


def _begin(threads: Sequence[_Thread], order: Order) -> None:
    """Begin those of THREADS whose turn it is, and end those whose turn will not come."""
    while True:
        begun = {each.name for each in threads if each.begun}
        ended = {
            each.name: each.outcome is not None and each.outcome.error is None
            for each in threads
            if each.begun and not each.goes_on
        }
        turns = [each.turn for each in threads]
        following = next_turns(turns, begun, ended, order)
        for thread in threads:
            if thread.begun:
                continue
            if thread.name in following.left:
                thread.leave(following.left[thread.name])
            elif thread.name in following.now:
                thread.begin()
        if not following.left and not following.now:
            return


class _Thread(threading.Thread):
    """Does TASK, tells who listens what became of its machine, and rings.

    OUTCOME is None if it was BROKEN-OFF by what is not the machine's own trouble.
    """

    def __init__(
        self, task: Task, interruption: Interruption, tell: Emit, ring: Callable[[], None]
    ) -> None:
        super().__init__(name=task.machine, daemon=True)
        self.begun = False
        self.goes_on = False
        self.turn = Turn(task.machine, task.requires, task.changes)
        self.outcome: Outcome | None = None
        self.broken_off: BaseException | None = None
        self._task = task
        self._interruption = interruption
        self._tell = tell
        self._ring = ring

    def begin(self) -> None:
        """Start the work, if there can be another thread."""
        self.begun = self.goes_on = True
        try:
            self.start()
        except RuntimeError as error:
            self.outcome = failed(self._task.machine, error)
            self.goes_on = False

    def leave(self, why: str) -> None:
        """Do nothing, and say WHY."""
        self.begun = True
        error = RequestRefusedError(f"'{self.name}' was left as it is: {why}", hint=_LEFT_HINT)
        self.outcome = failed(self.name, error)
        self._tell(MachineEnded(self.name, error.message))

    def run(self) -> None:
        """Do the work."""
        try:
            with self._interruption.followed():
                self._work()
                error = self.outcome.error if self.outcome is not None else None
                self._tell(MachineEnded(self._task.machine, error.message if error else None))
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            self.broken_off = error
        finally:
            self.goes_on = False
            self._ring()

    def _work(self) -> None:
        try:
            self._interruption.check()
            self.outcome = self._task.work()
        except Exception as error:  # noqa: BLE001 -- one's trouble is its own
            self.outcome = failed(self._task.machine, error)


@contextmanager
def _bell() -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Yield what rings, in any thread, and what waits for that, or for a signal, in this one.

    The kernel may hand a signal to any thread, and Python has the main one handle it: as
    soon as that does anything.  A lock it waited for would not tell it.
    """
    heard, rung = socket.socketpair()
    with heard, rung:
        rung.setblocking(False)
        main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False) if main else -1

        def ring() -> None:
            # Full, which is as good; or closed, since all are known to have ended.
            with suppress(OSError):
                rung.send(b"\0")

        def wait() -> None:
            heard.recv(_RINGS)

        try:
            yield ring, wait
        finally:
            if main:
                signal.set_wakeup_fd(before)
