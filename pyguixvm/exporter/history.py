# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines used in the last hour, for the page: not more than fits in some kilobytes each."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from pyguixvm.exporter.view import HypervisorView
from pyguixvm.model.statistics import Statistics
from pyguixvm.plan.rates import Rates, rates

# Seconds.
_HOUR = 3600.0
_STEP = 30.0
_POINTS = int(_HOUR / _STEP)


@dataclass
class _Line:
    """What a machine used, and the LAST that was counted of it, at WHEN."""

    points: deque[Rates]
    when: float
    last: Statistics


class History:
    """Keeps what each machine used in the last hour, a point each half minute; thread-safe."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}

    def note(self, view: HypervisorView, now: float) -> None:
        """Take what VIEW tells at NOW (seconds since the epoch); what is gone is forgotten."""
        ours = {status.uuid for status in view.statuses}
        with self._lock:
            for uuid, used in view.statistics.items():
                if uuid not in ours:
                    continue
                line = self._lines.get(uuid)
                if line is None:
                    self._lines[uuid] = _Line(deque(maxlen=_POINTS), now, used)
                elif now - line.when >= _STEP:
                    line.points.append(rates(line.last, used, now - line.when))
                    line.when, line.last = now, used
            old = [uuid for uuid, line in self._lines.items() if now - line.when > _HOUR]
            for uuid in old:
                del self._lines[uuid]

    def of(self, uuid: str | None) -> tuple[Rates, ...]:
        """Return what the machine of UUID used, oldest first."""
        with self._lock:
            line = self._lines.get(uuid or "")
            return tuple(line.points) if line else ()
