# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to a terminal for a frame."""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text

from pyguixvm.cli.ui.frames import Frames


class Drawing:
    """Frames on a terminal of 20 columns and 4 lines, and what is sent for each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.console = Console(
            file=io.StringIO(), force_terminal=True, width=20, height=4, color_system=None,
            highlight=False, legacy_windows=False,
        )  # fmt: skip
        self.frames = Frames(self.console, lambda: self.now)

    def sent(self, *lines: str) -> str:
        """Draw LINES and return what that sends."""
        file = self.console.file = io.StringIO()
        self.frames.draw([Text(line) for line in lines])
        return file.getvalue()


def row(number: int, text: str) -> str:
    return f"\x1b[{number};1H{text:<20}"


def test_only_lines_that_changed_are_sent() -> None:
    drawing = Drawing()
    first = drawing.sent("one", "two", "three")
    assert first == row(1, "one") + row(2, "two") + row(3, "three") + row(4, "")
    assert drawing.sent("one", "two", "three") == ""
    assert drawing.sent("one", "2", "three") == row(2, "2")
    # What is not there any more is wiped away, and what has no room is not sent.
    assert drawing.sent("one") == row(2, "") + row(3, "")
    assert drawing.sent("one", "2", "3", "4", "5") == row(2, "2") + row(3, "3") + row(4, "4")


def test_what_somebody_else_wrote_is_drawn_over_in_time() -> None:
    drawing = Drawing()
    first = drawing.sent("one")
    drawing.now = 4.9
    assert drawing.sent("one") == ""
    drawing.now = 5.0
    assert drawing.sent("one") == first


def test_another_size_is_drawn_in_full() -> None:
    drawing = Drawing()
    drawing.sent("one", "two")
    drawing.console.size = (10, 2)
    assert drawing.sent("one", "two") == f"\x1b[1;1H{'one':<10}\x1b[2;1H{'two':<10}"
