# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the parts of a deployment took, with several machines in them at once; pure."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

_Spans: TypeAlias = tuple[tuple[float, float], ...]


class Spent(msgspec.Struct, frozen=True):
    """When each part went on, for any machine, as seconds on one clock.

    However many machines are in a part at once, its time is counted once: it is what
    somebody who waits has waited for it.
    """

    spans: tuple[tuple[str, _Spans], ...] = ()

    def going_on(self, part: str, begin: float, end: float) -> Spent:
        """Return this with PART going on from BEGIN to END, too."""
        spans = dict(self.spans)
        spans[part] = _joined((*spans.get(part, ()), (begin, max(begin, end))))
        return Spent(tuple(spans.items()))

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each part, in the order in which they began to be known."""
        return {part: sum(end - begin for begin, end in spans) for part, spans in self.spans}


def _joined(spans: _Spans) -> _Spans:
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return tuple(joined)
