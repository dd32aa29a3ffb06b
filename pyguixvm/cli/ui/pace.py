# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast bytes go, and how long the rest of them takes; pure."""

from __future__ import annotations

import msgspec

from pyguixvm.model.sizes import format_size

# Before that (seconds) nothing can be said of it, and most are done.
_SOON = 2.0
_MINUTES = 120


class Pace(msgspec.Struct, frozen=True):
    """Work that had DONE bytes at the time SINCE (seconds), which may have been done before."""

    since: float
    done: int

    def words(self, done: int, total: int | None, now: float) -> str:
        """Return how far it is with DONE of TOTAL bytes NOW, and how fast, if that is known."""
        of = f" of {format_size(total)}" if total is not None else ""
        seconds = now - self.since
        rate = (done - self.done) / seconds if seconds >= _SOON else 0.0
        if rate <= 0:
            return f"{format_size(done)}{of}"
        fast = f"{format_size(done)}{of}, {format_size(max(1, int(rate)))}/s"
        return fast if total is None else f"{fast}, {_left((total - done) / rate)} left"


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTES else f"{seconds / 60:.0f} min"
