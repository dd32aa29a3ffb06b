# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch prints of its rounds, one for each save."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyguixvm.cli.options import Options
from pyguixvm.cli.output import Output
from pyguixvm.errors import PyguixvmError
from pyguixvm.events import Event

if TYPE_CHECKING:
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.cli.ui.lines import Line


@dataclass(frozen=True)
class Ended:
    """A round ended with STATUS after SECONDS; SUMMARY says what took them.

    CONFIG is waited for.
    """

    config: Path
    status: int
    seconds: float
    summary: str


class Rounds(Output):
    """Prints plain lines."""

    # Called where somebody can ask for a deployment without a save.
    asked: Callable[[], None] = staticmethod(lambda: None)

    @property
    def paused(self) -> bool:
        """Whether the person wants saves to wait."""
        return False

    def begin(self, saved: float) -> None:
        """A round begins because of a save, SAVED on the monotonic clock."""

    def saved(self, config: Path, *, after_this: bool) -> None:
        """CONFIG, or what it depends on, was saved; that is taken up at once or AFTER_THIS round.

        Called from any thread.
        """
        if after_this:
            self.note(f"{config} was saved again: taken up after this")

    def saved_again(self, config: Path) -> None:
        """CONFIG was saved meanwhile: the round was given up."""
        self.note(f"{config} was saved meanwhile: starting over")

    def waiting(self, ended: Ended) -> None:
        """A round ENDED, and the next save is waited for."""
        self.note(f"{ended.summary}; waiting for {ended.config} to be saved")


class JsonRounds(Rounds):
    """Prints one line of JSON for each thing that happens."""

    def __init__(self, options: Options) -> None:
        """Print nothing yet."""
        super().__init__(options)
        self._round = 0
        # A save is told from a thread of its own.
        self._writing = threading.Lock()

    def begin(self, saved: float) -> None:
        """Count the round."""
        del saved
        self._round += 1

    def emit(self, event: Event) -> None:
        """Print EVENT, unless it is one of thousands."""
        from pyguixvm.cli.ui.lines import of_event

        line = of_event(event, self._round)
        if line is not None:
            self._write(line)

    def outcomes(self, outcomes: Sequence[Outcome], **_more: Any) -> None:
        """Print OUTCOMES, what became of each machine."""
        from pyguixvm.cli.as_documents import deployed
        from pyguixvm.cli.ui.lines import RoundDeployed

        self._tell(RoundDeployed, machines=tuple(map(deployed, outcomes)))

    def error(self, error: PyguixvmError) -> None:
        """Print ERROR."""
        from pyguixvm.cli import as_documents
        from pyguixvm.cli.ui.lines import RoundFailed

        self._tell(RoundFailed, error=as_documents.error(error))

    def note(self, text: str) -> None:
        """Print TEXT, what a person would be told."""
        from pyguixvm.cli.ui.lines import Note

        self._tell(Note, message=text)

    def saved(self, config: Path, *, after_this: bool) -> None:
        """Print that CONFIG was saved."""
        from pyguixvm.cli.ui.lines import Saved

        self._tell(Saved, config=str(config), after_this=after_this)

    def waiting(self, ended: Ended) -> None:
        """Print how a round ENDED."""
        from pyguixvm.cli.ui.lines import RoundEnded

        self._tell(RoundEnded, status=ended.status, seconds=round(ended.seconds, 3))
        super().waiting(ended)

    def _tell(self, kind: type[Line], **fields: Any) -> None:
        from pyguixvm.cli.ui.lines import now

        self._write(kind(time=now(), round=self._round, **fields))

    def _write(self, line: Line) -> None:
        import msgspec

        with self._writing:
            # At once: whoever reads acts on it.
            click.echo(msgspec.json.encode(line).decode())
