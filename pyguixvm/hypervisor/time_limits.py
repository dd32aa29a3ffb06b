# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that end: libvirt's own wait in C, without limit, and hear no Control-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from pyguixvm.errors import HypervisorError
from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked

_Answer = TypeVar("_Answer")
_HINT = "see whether it answers at all: 'virsh -c URI list'; libvirtd may hang there"


class SilenceError(HypervisorError):
    """A request was not answered in time; it may be carried out all the same."""

    def __init__(self, doing: str, seconds: float) -> None:
        """Say that there was no answer within SECONDS when DOING something."""
        super().__init__(f"cannot {doing}: no answer within {seconds:g} s", hint=_HINT)
        self.seconds = seconds


class Threads:
    """Threads for requests, one for each that goes on: the next one finds it waiting.

    A new thread for each would take as long as the request itself.
    """

    def __init__(self) -> None:
        """Start none yet."""
        self._lock = threading.Lock()
        self._waiting: list[SimpleQueue[Callable[[], None] | None]] = []
        self._ended = False
        self._going_on = 0

    def run(self, job: Callable[[], None]) -> None:
        """Have JOB done."""
        with self._lock:
            jobs = self._waiting.pop() if self._waiting else None
        if jobs is None:
            jobs = SimpleQueue()
            threading.Thread(target=self._work, args=(jobs,), name="requests", daemon=True).start()
        jobs.put(job)

    def counted(self, call: Callable[[], _Answer]) -> Callable[[], _Answer]:
        """Return CALL, which goes on from now to its end.  Raises HypervisorError after `end`."""
        self._begin()

        def counted() -> _Answer:
            try:
                return call()
            finally:
                self._end()

        return counted

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Count the body as something that goes on.  Raises HypervisorError after `end`."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self._ended:
                raise HypervisorError("the connection was closed meanwhile")
            self._going_on += 1

    def _end(self) -> None:
        with self._lock:
            self._going_on -= 1

    def end(self) -> bool:
        """End all threads that wait, the others after their requests; whether none goes on."""
        with self._lock:
            self._ended = True
            waiting, self._waiting = self._waiting, []
            going_on = self._going_on
        for jobs in waiting:
            jobs.put(None)
        return not going_on

    def _work(self, jobs: SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
            # What it holds is let go of before another comes.
            del job
            with self._lock:
                if self._ended:
                    return
                self._waiting.append(jobs)


def within(
    seconds: float,
    doing: str,
    call: Callable[[], _Answer],
    *,
    unwanted: Callable[[_Answer], object] | None = None,
    grace: float = 0,
    threads: Threads | None = None,
    patience: tuple[float, Callable[[], object]] | None = None,
) -> _Answer:
    """Return what CALL returns, or raise what it raises; it is about DOING something.

    Raises SilenceError after SECONDS, and KeyboardInterrupt at once, or GRACE seconds later
    unless CALL ends before: then it goes on in a thread of its own for as long as it likes,
    and what it returns at last is for UNWANTED.  That thread is one of THREADS, if given.
    PATIENCE: how often (seconds) to call what raises an error if there is no use in waiting.
    """
    request = Request(call if threads is None else threads.counted(call), unwanted)
    try:
        if threads is None:
            threading.Thread(target=request.run, name="request", daemon=True).start()
        else:
            threads.run(request.run)
        if not ends(request.ended, seconds, patience):
            raise SilenceError(doing, seconds)
    except KeyboardInterrupt:
        request.ended.wait(grace)
        raise
    finally:
        request.leave()
    return request.result()


def ends(
    ended: threading.Event,
    seconds: float,
    patience: tuple[float, Callable[[], object]] | None = None,
) -> bool:
    """Wait for ENDED up to SECONDS, as long as PATIENCE lets; whether it was."""
    every, look = patience or (seconds, end_here_if_asked)
    now = time.monotonic()
    deadline, due = now + seconds, now + every
    while not ended.wait(min(LOOK_SECONDS, max(0.0, deadline - now))):
        # A signal ends the wait of the main thread, and of no other.
        end_here_if_asked()
        now = time.monotonic()
        if now >= deadline:
            return False
        if now >= due:
            due = now + every
            look()
    return True


@dataclass
class Request(Generic[_Answer]):
    """CALL in a thread of its own; if nobody waits any more, its answer is for UNWANTED."""

    call: Callable[[], _Answer]
    unwanted: Callable[[_Answer], object] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _left: bool = False
    _answers: list[_Answer] = field(default_factory=list)
    _error: BaseException | None = None

    def result(self) -> _Answer:
        """Return what the call, which has ended, returned, or raise what it raised."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            # In a circle with its own traceback, it would be freed somewhere in between, with
            # libvirt's objects that it refers to: freeing these makes libvirt forget what went
            # wrong last in that thread.
            del error
        return self._answers[0]

    def leave(self) -> None:
        """Wait no longer."""
        with self._lock:
            self._left = not self.ended.is_set()

    def run(self) -> None:
        """Make the call."""
        try:
            self._answers.append(self.call())
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            self._error = error
        with self._lock:
            self.ended.set()
            left = self._left
        if left and self._answers and self.unwanted is not None:
            self.unwanted(self._answers[0])
