# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch prints of its rounds, one for each save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pyguixvm.cli.output import Output
from pyguixvm.events import BuildOutput, Event, PhaseProgress


@dataclass(frozen=True)
class Ended:
    """A round ended with STATUS; SUMMARY says what it took.  CONFIG is waited for."""

    config: Path
    status: int
    summary: str


class Rounds(Output):
    """Prints plain lines."""

    def begin(self, saved: float) -> None:
        """A round begins because of a save, SAVED on the monotonic clock."""

    def saved_again(self, config: Path) -> None:
        """CONFIG was saved meanwhile: the round was given up."""
        self.note(f"{config} was saved meanwhile: starting over")

    def waiting(self, ended: Ended) -> None:
        """A round ENDED, and the next save is waited for."""
        self.note(f"{ended.summary}; waiting for {ended.config} to be saved")


class JsonRounds(Rounds):
    """Prints one line of JSON for each thing that happens."""

    def emit(self, event: Event) -> None:
        """Print EVENT, unless it is one of thousands."""
        import msgspec

        if not isinstance(event, BuildOutput | PhaseProgress):
            self._write(msgspec.to_builtins(event))

    def document(self, value: Any) -> None:
        """Print VALUE, how a deployment ended."""
        import msgspec

        document = msgspec.to_builtins(value)
        self._write({"type": "failed" if "error" in document else "deployed", **document})

    def note(self, text: str) -> None:
        """Print TEXT, what a person would be told."""
        self._write({"type": "note", "message": text})

    def _write(self, value: dict[str, Any]) -> None:
        import msgspec

        # At once: whoever reads acts on it.
        click.echo(msgspec.json.encode(value).decode())
