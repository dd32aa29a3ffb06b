# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a machine is ready."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.readiness import Evidence, Readiness, Watch

_POLL_SECONDS = 0.5


def wait_ready(
    machine: VirtualMachine,
    evidence: Evidence,
    *,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Readiness:
    """Wait until EVIDENCE shows all that MACHINE declares as ready, or until DEADLINE by CLOCK.

    What declares nothing is not waited for.
    A guest that stops or panics meanwhile is not ready at once.  Raises
    `EvaluationError` for a pattern that is no regular expression.
    """
    watch = Watch(machine, evidence)
    while True:
        stopped = watch.look()
        if stopped is not None:
            return watch.readiness("not-ready", stopped)
        if not watch.missing:
            return watch.readiness("ready", watch.seen() or "nothing is to be waited for")
        if clock() >= deadline or watch.hopeless():
            return watch.timed_out()
        sleep(_POLL_SECONDS)
