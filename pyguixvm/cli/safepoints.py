# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a command from outside: Control-C, a supervisor, a session that is gone."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from pyguixvm.interruption import Interruption

if TYPE_CHECKING:
    from pyguixvm.events import Emit

_PUT_OFF = "interrupted: what a guest needs to run is finished first (^C again: at once)"
_MUST_FINISH = "interrupted: a guest is away, and is started first"
_MAY_SKIP = (
    "interrupted: a guest shuts down, and is waited for first (^C again: it is powered off now, "
    "and what its programs have not written is lost)"
)
_SKIPPED = "not waited for any more: a guest that shuts down is powered off"
# Seconds from a signal until a wait that began just after it is ended.
_MOMENT = 0.05


@contextmanager
def heeded(emit: Emit, *, seen: bool | None = None) -> Iterator[Interruption]:
    """Yield what says whether a signal asks for the end of the body; EMIT tells that it waits.

    The body runs in the main thread, and may have others work.  SEEN: a person sees what is
    told; by default, if standard error is a terminal.
    """
    from pyguixvm.events import Notice, undisturbed  # not needed by most verbs

    interruption = Interruption()

    watched = sys.stderr.isatty() if seen is None else seen

    def interrupted(number: int, _frame: FrameType | None) -> None:
        interruption.ask(by_hand=watched and number == signal.SIGINT)
        if not interruption.waits:
            # What other threads do ends in a moment.
            return
        text = _said(interruption, watched=watched)
        # Not from here, in the middle of anything: whoever shows it may be busy showing.
        event = Notice(text, warning=True)
        threading.Thread(target=undisturbed(emit), args=(event,)).start()

    with _handled((signal.SIGINT, *_others()), interrupted):
        yield interruption
    interruption.check()


def _said(interruption: Interruption, *, watched: bool) -> str:
    """Return what is told to whoever asked for the end of what INTERRUPTION is about."""
    waits = interruption.skippable if watched else ()
    if any(wait.skipped for wait in waits):
        return _SKIPPED
    if waits:
        return _MAY_SKIP
    return _PUT_OFF if interruption.heeded_next_time else _MUST_FINISH


@contextmanager
def alike() -> Iterator[None]:
    """Have TERM and HUP end the body in the same way as Control-C: by KeyboardInterrupt."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with _handled(_others(), interrupted), _felt():
        yield


@contextmanager
def _felt() -> Iterator[None]:
    """Have any signal end what the main thread waits for in the body.

    Python only takes note of a signal, and calls its handler when the main thread does
    something next.  What that waits for is ended by the signal itself, unless another thread
    was handed it, or the wait began just after it (and ended with a lock that nobody releases):
    so who hears of a signal disturbs the main thread once more, by one that nobody sends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main = threading.get_ident()
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def disturb() -> None:
        # It ends with the body, and nobody waits for that: it may disturb nothing any more.
        with os.fdopen(heard, "rb", buffering=0) as signals:
            while number := signals.read(1):
                if number[0] != signal.SIGURG:
                    select.select([signals], [], [], _MOMENT)
                    signal.pthread_kill(main, signal.SIGURG)

    threading.Thread(target=disturb, name="signals", daemon=True).start()
    before = -1
    with _handled((signal.SIGURG,), lambda *_: None):
        try:
            before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(told)


def _others() -> tuple[signal.Signals, ...]:
    """Return the signals that count as Control-C does, unless they are ignored, as by nohup."""
    others = (signal.SIGTERM, signal.SIGHUP)
    return tuple(each for each in others if signal.getsignal(each) is not signal.SIG_IGN)


@contextmanager
def _handled(
    signals: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Have HANDLER take SIGNALS in the body, where a thread may say so at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in signals}
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
