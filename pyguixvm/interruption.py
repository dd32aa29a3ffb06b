# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody wants the work to end: at once where nothing is half done, else a little later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether somebody asked for the end; handlers of signals tell it, the work asks it.

    Work may end anywhere, since the next run takes up what it left, unless it says
    otherwise for a while.
    """

    def __init__(self) -> None:
        """Nobody has asked for anything."""
        self._asked = 0
        # For each part of the work that is to be finished: however often somebody asks?
        self._unfinished: list[bool] = []

    @property
    def heeded_next_time(self) -> bool:
        """Whether what goes on would be ended if somebody asked once more."""
        return not any(self._unfinished)

    def ask(self) -> None:
        """Take note that somebody wants the work to end, in the thread that does it.

        Raises KeyboardInterrupt, unless what goes on is to be finished first.
        """
        self._asked += 1
        if not self._unfinished or (self._asked > 1 and self.heeded_next_time):
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody asked for the end: here is a good place for it."""
        if self._asked:
            raise KeyboardInterrupt

    @contextmanager
    def put_off(self, *, however_often: bool = False) -> Iterator[None]:
        """Have the body finished before the work ends: with HOWEVER_OFTEN, even if asked again.

        Raises KeyboardInterrupt after all of it, unless it fails, if somebody asked.
        """
        self._unfinished.append(however_often)
        try:
            yield
        finally:
            self._unfinished.pop()
        if not self._unfinished:
            self.check()
