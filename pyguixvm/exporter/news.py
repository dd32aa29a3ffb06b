# SPDX-License-Identifier: GPL-3.0-or-later
"""That there is something new, for all who wait for it."""

from __future__ import annotations

import threading
import time

# News that follow each other sooner (seconds) are one.
_TOGETHER = 1.0


class News:
    """Counts what is new; safe between threads."""

    def __init__(self) -> None:
        """There is nothing new yet."""
        self._turn = threading.Condition()
        self._number = 0

    def tell(self) -> None:
        """Say that there is something new."""
        with self._turn:
            self._number += 1
            self._turn.notify_all()

    def after(self, number: int, seconds: float) -> int | None:
        """Return the number of the last news if there is any after NUMBER, else None.

        Wait for it up to SECONDS, and a moment for what comes with it.
        """
        with self._turn:
            if not self._turn.wait_for(lambda: self._number > number, seconds):
                return None
            first = number < 0
        if not first:
            time.sleep(_TOGETHER)
        with self._turn:
            return self._number
