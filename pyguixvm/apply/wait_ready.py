# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a machine is ready."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyguixvm.events import Emit, Waiting, ignore
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.readiness import Evidence, Readiness, Watch

_POLL_SECONDS = 0.5


def wait_ready(
    machine: VirtualMachine,
    evidence: Evidence,
    *,
    deadline: float,
    emit: Emit = ignore,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Readiness:
    """Wait until EVIDENCE shows all that MACHINE declares as ready, or until DEADLINE by CLOCK.

    What declares nothing is not waited for.  EMIT is told what is missing, and the console's
    last line, as often as one of them changes.
    A guest that stops or panics meanwhile is not ready at once.  Raises
    `EvaluationError` for a pattern that is no regular expression.
    """
    watch = Watch(machine, evidence)
    told: tuple[str, str] | None = None
    while True:
        stopped = watch.look()
        if stopped is not None:
            return watch.readiness("not-ready", stopped)
        if watch.complete():
            return watch.readiness("ready", watch.seen() or "nothing is to be waited for")
        if clock() >= deadline or watch.hopeless():
            return watch.timed_out()
        seen = (watch.wanted(), watch.last_line())
        if seen != told:
            told = seen
            emit(Waiting(machine.name, seen[0], deadline - clock(), seen[1]))
        sleep(_POLL_SECONDS)
