# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames on the terminal's other screen, of each only the lines that another one had otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.control import Control
from rich.segment import Segment, Segments
from rich.text import Text

# What somebody else wrote there stays no longer than so (seconds) while frames are drawn.
_WHOLE_SECONDS = 5.0


class Frames:
    """Draws on the other screen of the terminal of CONSOLE, between `start` and `stop`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Touch nothing yet."""
        self._console = console
        self._clock = clock
        self._drawn: list[list[Segment]] = []
        self._size = console.size
        self._whole_at = -_WHOLE_SECONDS

    def start(self) -> None:
        """Show the other screen, without a cursor."""
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def stop(self) -> None:
        """Show the first one again, as it was."""
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)

    def draw(self, lines: Sequence[Text]) -> None:
        """Have the screen show LINES, those that have room."""
        size, now = self._console.size, self._clock()
        options = self._console.options.update_dimensions(size.width, size.height)
        rows = self._console.render_lines(Group(*lines), options)
        rows = Segment.set_shape(rows, size.width, size.height)
        whole = size != self._size or now >= self._whole_at + _WHOLE_SECONDS
        with self._console:
            for number, row in enumerate(rows):
                if whole or row != self._drawn[number]:
                    self._console.control(Control.move_to(0, number))
                    self._console.print(Segments(row), end="", soft_wrap=True)
        self._drawn, self._size = rows, size
        if whole:
            self._whole_at = now
