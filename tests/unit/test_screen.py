# SPDX-License-Identifier: GPL-3.0-or-later
"""The view on a real terminal: drawn, resized, and left as it was found."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

OTHER_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """`pyguixvm watch` in a terminal of its own, without a Guix: each round ends with an error."""

    def __init__(self, directory: Path, columns: int) -> None:
        self.shown = b""
        self._master, slave = pty.openpty()
        self.resize(columns)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyguixvm", "watch", "config.scm"],
            cwd=directory,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": str(directory), "TERM": "xterm-256color", "HOME": str(directory)},
            start_new_session=True,
            # Its controlling terminal, as a shell gives it one.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self._kept = slave

    def resize(self, columns: int, lines: int = 15) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def read(self, seconds: float) -> bytes:
        """Return what is written within SECONDS, or until nobody can write any more."""
        read, deadline = b"", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    break
                read += data
        self.shown += read
        return read

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.shown.count(text.encode()) < times:
            assert time.monotonic() < deadline, self.shown
            self.read(0.1)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, a line at a time."""
        mode = termios.tcgetattr(self._kept)[3]
        return bool(mode & termios.ECHO and mode & termios.ICANON)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Interrupt the process; return its status when all that it wrote was read."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Return the status of the process, which ends, when all that it wrote was read."""
        deadline = time.monotonic() + 10
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self.read(0.1)
        self.read(0.2)
        return self.process.wait()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "config.scm").write_text("(virtual-machine)")
    made = Terminal(tmp_path, 60)
    yield made
    made.process.kill()
    made.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_left_as_it_was(terminal: Terminal, number: signal.Signals) -> None:
    terminal.wait_for("waiting for config.scm")
    assert terminal.shown.count(OTHER_SCREEN) == terminal.shown.count(HIDE) == 1
    assert FIRST_SCREEN not in terminal.shown
    assert terminal.interrupt(number) == 130
    _, after = terminal.shown.split(FIRST_SCREEN)
    assert terminal.shown.rindex(SHOW) > terminal.shown.rindex(HIDE)
    # How things were at the end, and how it ended, stay on the first one.
    assert b"error" in after
    assert b"interrupted" in after


@pytest.mark.parametrize("ends", ["q", "^C", "TERM"])
def test_keys_are_heeded_and_the_terminal_has_its_modes_back(terminal: Terminal, ends: str) -> None:
    terminal.wait_for("waiting for config.scm")
    terminal.type("?")
    terminal.wait_for("deploy now")
    terminal.type("?d")
    terminal.wait_for("2 ✗")
    terminal.type("p")
    terminal.wait_for("paused")
    assert not terminal.echoes()
    if ends == "TERM":
        assert terminal.interrupt(signal.SIGTERM) == 130
    else:
        terminal.type("q" if ends == "q" else "\x03")
        assert terminal.end() == 130
    assert terminal.echoes()


def test_nothing_is_drawn_while_nothing_happens(terminal: Terminal) -> None:
    terminal.wait_for("waiting for config.scm")
    terminal.read(0.5)
    assert terminal.read(2.0) == b""


def test_another_size_is_drawn_in_full(terminal: Terminal) -> None:
    terminal.wait_for("waiting for config.scm")
    terminal.read(0.5)
    terminal.resize(40, 10)
    drawn = terminal.read(1.5).decode()
    assert "─" * 40 in drawn
    assert "─" * 41 not in drawn
    assert drawn.count("\n") < 10


def test_an_error_goes_with_the_next_save(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("waiting for config.scm")
    terminal.read(0.5)
    (tmp_path / "config.scm").write_text("(virtual-machine) ; once more")
    drawn = terminal.read(3)
    assert b"working" in drawn or b"2 \xe2\x9c\x97" in drawn
    # Among the earlier rounds, too.
    assert drawn.count(b"is not in PATH") >= 2
