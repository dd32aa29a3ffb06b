# SPDX-License-Identifier: GPL-3.0-or-later
"""Control-C ends a deployment where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyguixvm.events import Emit, Event, Notice, Phase, PhaseStarted

# From the first of these until another phase begins, a guest may be away, or be
# another one than is defined.  All else is undone when it is interrupted.
_UNDIVIDED: frozenset[Phase] = frozenset(
    {"stop", "define", "update", "activate", "start", "remove"}
)


class SafePoints:
    """Lets an interrupt wait until a guest is where it should be; a second one does not wait."""

    def __init__(self, emit: Emit) -> None:
        """Pass events on to EMIT."""
        self._emit = emit
        self._undivided = False
        self._asked = False

    def emit(self, event: Event) -> None:
        """Pass EVENT on; raises KeyboardInterrupt if it ends what an interrupt waits for."""
        if isinstance(event, PhaseStarted):
            self._undivided = event.phase in _UNDIVIDED
            if self._asked and not self._undivided:
                raise KeyboardInterrupt
        self._emit(event)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take interrupts while the body, which is to run in the main thread, emits events."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self._asked:
            raise KeyboardInterrupt

    def _interrupted(self, *_: object) -> None:
        if not self._undivided or self._asked:
            raise KeyboardInterrupt
        self._asked = True
        text = "interrupted: what a guest needs to run is finished first (^C again: at once)"
        # Not from here, in the middle of anything: whoever shows it may be busy showing.
        threading.Thread(target=self._emit, args=(Notice(text, warning=True),)).start()
