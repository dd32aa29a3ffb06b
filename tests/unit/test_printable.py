# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from elsewhere steers no terminal, wherever it is printed."""

from __future__ import annotations

import doctest
import io
import sys
from pathlib import Path

import pytest

from pyguixvm import printable
from pyguixvm.cli.build_log import BuildLog
from pyguixvm.cli.options import Options
from pyguixvm.cli.output import Output, error_lines
from pyguixvm.cli.ui.progress import LiveProgress, PlainProgress
from pyguixvm.errors import BuildError, NotReadyError
from pyguixvm.events import BuildOutput, Event, Notice, PhaseFinished, PhaseStarted

# Clear the screen, set the title, go up, ring, and turn the writing round.
BAD = "a\x1b[2J\x1b]0;title\x07\x1bM\x07\u202e\x9b2Jz"


def harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_the_examples() -> None:
    assert doctest.testmod(printable).failed == 0


def test_lines_and_notes_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Options())
    output.line(BAD)
    output.note(BAD)
    output.table(("NAME", "STATE"), [(BAD + "\n", "running")])
    said = capsys.readouterr()
    assert harmless(said.out)
    assert harmless(said.err)
    assert len(said.out.splitlines()) == 3


def test_errors() -> None:
    for error in (
        BuildError(BAD, log="/log", tail=(BAD,), hint=BAD),
        NotReadyError(f"first\n{BAD}", console=(BAD,), hint=BAD),
    ):
        assert all(harmless(line) for line in error_lines(error))
    assert error_lines(NotReadyError("first\nsecond"))[0].endswith("first\nsecond")


@pytest.mark.parametrize(
    "event",
    [
        Notice(BAD, BAD, warning=True),
        PhaseFinished("ready", 1.0, BAD, BAD),
        PhaseStarted("build", BAD, BAD),
        BuildOutput(BAD),
    ],
)
def test_events(event: Event, tmp_path: Path) -> None:
    stream = io.StringIO()
    PlainProgress(stream, 1, BuildLog(tmp_path)).show(event)
    assert harmless(stream.getvalue())
    assert stream.getvalue()


def test_events_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    live = LiveProgress(stream, 1)
    live.show(Notice(BAD))
    live.show(BuildOutput(BAD))
    live.close()
    assert harmless(stream.getvalue())
