# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody wants the work to end: at once where nothing is half done, else a little later.

A signal ends what the main thread does.  Other threads are not told by Python: they look, at
places of their own choice (`check`, `pause`, `end_here_if_asked`), whether somebody asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Between two looks of a thread that waits for something else (seconds).
LOOK_SECONDS = 0.1
# Who asks again within this time (seconds) has hardly read what was said to it.
_READING_SECONDS = 1.0


class Wait:
    """A wait for somebody else, which a person may cut short, who loses something then.

    That they AGREED before.
    """

    def __init__(self, *, agreed: bool) -> None:
        """Nobody has asked for anything."""
        self.agreed = agreed
        self.skipped = False
        self._told: float | None = None

    def ask(self, now: float) -> bool:
        """Take note that a person wants it to end, NOW; return whether only this wait ends.

        Who has not agreed has to ask again, after what they lose was told.
        """
        if self.skipped:
            return False
        if self._told is None:
            self._told = now
        self.skipped = self.agreed or now - self._told >= _READING_SECONDS
        return self.agreed


class Interruption:
    """Whether somebody asked for the end; handlers of signals tell it, the work asks it.

    Work may end anywhere, since the next run takes up what it left, unless it says
    otherwise for a while.  Each thread says so for itself.
    """

    def __init__(self) -> None:
        """Nobody has asked for anything."""
        self.asked = 0  # how often
        # For each part of the work that is to be finished: by which thread, and however
        # often somebody asks?  No lock: a handler runs in the middle of anything.
        self._unfinished: dict[object, tuple[int, bool]] = {}
        self._others_work = False
        self._skippable: dict[object, Wait] = {}

    @property
    def waits(self) -> bool:
        """Whether anything goes on that is to be finished first."""
        return bool(self._unfinished)

    @property
    def heeded_next_time(self) -> bool:
        """Whether what goes on would be ended if somebody asked once more."""
        return not any(however_often for _, however_often in tuple(self._unfinished.values()))

    @property
    def skippable(self) -> tuple[Wait, ...]:
        """What goes on that a person may cut short."""
        return tuple(self._skippable.values())

    @contextmanager
    def skipped_on_request(self, *, agreed: bool) -> Iterator[Wait]:
        """Let a person cut short the body, a wait which says by what is yielded if they do.

        AGREED: they have agreed to what they lose then.
        """
        wait = Wait(agreed=agreed)
        self._skippable[wait] = wait
        try:
            yield wait
        finally:
            del self._skippable[wait]

    def ask(self, *, by_hand: bool = False) -> None:
        """Take note, in the main thread, that somebody wants the work to end.

        BY_HAND: a person who sees what is told.  They cut short a wait that may be, once.
        Raises KeyboardInterrupt, unless what goes on is to be finished first, or is done by
        other threads, which look for themselves.
        """
        now = time.monotonic()
        cut_short = [wait.ask(now) for wait in self.skippable if by_hand]
        if any(cut_short):
            return
        self.asked += 1
        if not self._others_work and self.is_due():
            raise KeyboardInterrupt

    def is_due(self, thread: int | None = None) -> bool:
        """Whether what THREAD does, by default this one, is to end now."""
        thread = threading.get_ident() if thread is None else thread
        mine = [often for whose, often in tuple(self._unfinished.values()) if whose == thread]
        return self.asked > 0 and (not mine or (self.asked > 1 and not any(mine)))

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody asked for the end: here is a good place for it."""
        if self.is_due():
            raise KeyboardInterrupt

    @contextmanager
    def put_off(self, *, however_often: bool = False) -> Iterator[None]:
        """Have the body finished before the work ends: with HOWEVER_OFTEN, even if asked again.

        Raises KeyboardInterrupt after all of it, unless it fails, if somebody asked.
        """
        this = object()
        self._unfinished[this] = (threading.get_ident(), however_often)
        try:
            yield
        finally:
            del self._unfinished[this]
        self.check()

    @contextmanager
    def left_to_others(self) -> Iterator[None]:
        """Have only other threads end early: the body waits for all of them."""
        self._others_work = True
        try:
            yield
        finally:
            self._others_work = False

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Have `end_here_if_asked` heed this in the body, a thread's work."""
        _WORK.interruption = self
        try:
            yield
        finally:
            _WORK.interruption = None


class _Work(threading.local):
    """What the work of each thread follows; nothing in the main thread, which signals reach."""

    interruption: Interruption | None = None


_WORK = _Work()


def followed_here() -> Interruption | None:
    """Return what tells this thread whether its work is to end; None where signals do."""
    return _WORK.interruption


def end_here_if_asked() -> None:
    """Raise KeyboardInterrupt if the work of this thread is to end; signals end the main one's.

    For waits below anything that is handed an `Interruption`.
    """
    if _WORK.interruption is not None:
        _WORK.interruption.check()


def pause(seconds: float) -> None:
    """Sleep for SECONDS; raises KeyboardInterrupt as soon as the work of this thread is to end."""
    until = time.monotonic() + seconds
    while (rest := until - time.monotonic()) > 0:
        end_here_if_asked()
        time.sleep(rest if _WORK.interruption is None else min(rest, LOOK_SECONDS))
    end_here_if_asked()


@contextmanager
def taken(lock: threading.Lock | threading.RLock | threading.Semaphore) -> Iterator[None]:
    """Hold LOCK in the body; whoever is to end meanwhile waits no longer."""
    while not lock.acquire(timeout=LOOK_SECONDS):
        end_here_if_asked()
    try:
        yield
    finally:
        lock.release()
