# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who work side by side look again, once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked

_Seen = TypeVar("_Seen")


@dataclass(frozen=True)
class _Look(Generic[_Seen]):
    """What look NUMBER saw, or why it saw nothing."""

    number: int
    seen: _Seen | None = None
    error: Exception | None = None


class SharedLook(Generic[_Seen]):
    """Looks for whoever asks, which takes its time.

    What was seen serves all who had asked before the look began: for each of them it is
    newer than the question.
    """

    def __init__(self, look: Callable[[], _Seen]) -> None:
        """Look by calling LOOK, not yet."""
        self._look = look
        self._turn = threading.Condition()
        self._begun = 0
        self._goes_on = False
        self._last: _Look[_Seen] = _Look(0)

    def now(self) -> _Seen:
        """Return what a look sees that begins after this call, or raise what it raises."""
        with self._turn:
            wanted = self._begun + 1
            while self._goes_on and self._last.number < wanted:
                self._turn.wait(LOOK_SECONDS)
                end_here_if_asked()
            if self._last.number >= wanted:
                return self._result(self._last)
            self._begun += 1
            self._goes_on = True
            number = self._begun
        return self._result(self._looked(number))

    def _looked(self, number: int) -> _Look[_Seen]:
        # Broken off, it is nobody's: another one looks.
        done = _Look[_Seen](0)
        try:
            done = _Look(number, seen=self._look())
        except Exception as error:  # noqa: BLE001 -- raised by all who share it
            done = _Look(number, error=error)
        finally:
            with self._turn:
                self._goes_on = False
                self._last = done
                self._turn.notify_all()
        return done

    @staticmethod
    def _result(look: _Look[_Seen]) -> _Seen:
        if look.error is not None:
            raise look.error
        assert look.seen is not None  # noqa: S101 -- it was looked
        return look.seen
