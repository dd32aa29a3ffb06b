# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what watch shows on a terminal; see `pyguixvm.cli.ui.view` for what that is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli.options import Options
from pyguixvm.cli.ui import view, view_lines
from pyguixvm.cli.ui.frames import Frames
from pyguixvm.cli.ui.keys import Keys
from pyguixvm.cli.ui.rounds import Ended, Rounds
from pyguixvm.errors import PyguixvmError
from pyguixvm.events import Event

# Between two frames (seconds), as long as something is going on.
_FRAME_SECONDS = 0.125
# While nothing goes on, this often whether the terminal has another size.
_IDLE_SECONDS = 0.5


class Screen(Rounds):
    """Shows rounds on the terminal's other screen, and leaves the last state on the first.

    Events only change the state, whichever thread they come from; one thread draws
    it, so that an interrupt never ends within a control sequence.
    """

    def __init__(self, options: Options, config: Path) -> None:
        """Draw from now on; the command's end restores the terminal."""
        super().__init__(options)
        now = time.monotonic()
        first = view.Change(begun=now, saved=_clock_time())
        self._view = view.View(config=str(config), change=first)
        self._lock = threading.Lock()
        self._changed, self._over = threading.Event(), threading.Event()
        self._console = Console(file=sys.stdout, highlight=False)
        self._frames = Frames(self._console)
        self._drawing = threading.Thread(target=self._draw, name="screen", daemon=True)
        click.get_current_context().call_on_close(self._close)
        self._keys = Keys(0, self._pressed) if _typed_to() else None
        self._frames.start()
        self._drawing.start()

    def emit(self, event: Event) -> None:
        """Show EVENT."""
        self._change(lambda state: view.happened(state, event, time.monotonic()))

    def forward(self, data: bytes) -> None:
        """Show what the configuration itself, or a hook, wrote."""
        self._change(lambda state: view.said(state, data.decode(errors="replace")))

    def line(self, text: str = "") -> None:
        """Show TEXT."""
        self.note(text)

    def note(self, text: str) -> None:
        """Show TEXT."""
        self._change(lambda state: view.said(state, text))

    def error(self, error: PyguixvmError) -> None:
        """Show ERROR until the next save."""
        self._change(lambda state: view.failed(state, error))

    def outcomes(self, outcomes: Sequence[Outcome], **_more: object) -> None:
        """Show what became of each machine."""
        self._change(lambda state: view.came_out(state, outcomes))

    def document(self, value: Any) -> None:
        """Show nothing: there are no documents on a screen."""

    def begin(self, saved: float) -> None:
        """Show that a round begins."""
        at = saved or time.monotonic()
        self._change(lambda state: view.began(state, _clock_time(), at))

    def saved(self, config: Path, *, after_this: bool) -> None:
        """Show that the configuration was saved again, if it has to wait."""
        del config
        if after_this:
            self._change(lambda state: view.saved_again(state, _clock_time()))

    def _pressed(self, key: str) -> None:
        if key == "q":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif key == "d" or (key == "p" and self._view.paused):
            if self._view.paused:
                self._change(lambda state: view.pressed(state, "p"))
            self.asked()
        else:
            self._change(lambda state: view.pressed(state, key))

    def saved_again(self, config: Path) -> None:
        """Show nothing: the next round does."""

    def waiting(self, ended: Ended) -> None:
        """Show that the next save is waited for."""
        self._change(lambda state: view.ended(state, ended.status, time.monotonic()))

    @property
    def paused(self) -> bool:
        """Whether the person wants saves to wait."""
        return self._view.paused

    def settle(self) -> None:
        """Leave the screen as it is: nothing else is printed while it is shown."""

    def _change(self, step: Callable[[view.View], view.View]) -> None:
        with self._lock:
            self._view = step(self._view)
        self._changed.set()

    def _draw(self) -> None:
        drawn: tuple[object, ...] = ()
        while not self._over.is_set():
            state, size = self._view, self._console.size
            if not state.waiting or drawn != (state, size):
                self._frames.draw(self._lines(state))
                drawn = (state, size)
            if state.waiting:
                self._changed.wait(_IDLE_SECONDS)
                self._changed.clear()
            else:
                self._over.wait(_FRAME_SECONDS)

    def _lines(self, state: view.View) -> list[Text]:
        size = self._console.size
        return view_lines.lines(state, size.width, size.height, time.monotonic())

    def _close(self) -> None:
        """Restore the terminal, and leave on it how things were at the end."""
        if self._keys is not None:
            self._keys.close()
        self._over.set()
        self._changed.set()
        self._drawing.join()
        # A terminal that went away needs no restoring.
        with suppress(OSError):
            self._frames.stop()
            self._print_last()

    def _print_last(self) -> None:
        width = self._console.size.width
        last = view_lines.lines(self._view, width, 24, time.monotonic())
        for text in last[:-2]:
            if text.plain.strip():
                self._console.print(text)


def _typed_to() -> bool:
    """Whether what is typed on the terminal comes to us: we are in its foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _clock_time() -> str:
    return time.strftime("%H:%M:%S")
