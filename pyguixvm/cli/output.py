# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that prints: results on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from pyguixvm.advice import reaching
from pyguixvm.cli.options import Options
from pyguixvm.errors import (
    BuildError,
    EvaluationError,
    InterruptedRequestError,
    NotReadyError,
    PyguixvmError,
)
from pyguixvm.printable import legible, printable
from pyguixvm.state_directory import state_directory

if TYPE_CHECKING:
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.cli.build_log import BuildLog
    from pyguixvm.cli.documents import Document
    from pyguixvm.cli.ui.progress import Progress
    from pyguixvm.commands.session import Session
    from pyguixvm.events import Event


# Green, yellow, magenta, red: what is made, changed, replaced, removed or refused.
_COLOURS = {
    "+": "32", "~": "33", "!": "35", "-": "31", "x": "31", "old": "31", "new": "32",
}  # fmt: skip


class Output:
    """Prints for one command, as its OPTIONS want it."""

    def __init__(self, options: Options) -> None:
        """Remember OPTIONS; nothing is printed yet."""
        self._options = options
        self._progress: Progress | None = None
        self._build_log: BuildLog | None = None

    @property
    def json(self) -> bool:
        """Whether results are wanted as JSON."""
        return self._options.json

    def emit(self, event: Event) -> None:
        """Show EVENT on standard error: live on a terminal, as a plain line elsewhere."""
        if self._progress is None:
            from pyguixvm.cli.build_log import BuildLog
            from pyguixvm.cli.ui.progress import progress

            if self._build_log is None:
                self._build_log = BuildLog(state_directory(os.environ) / "log")
            self._progress = progress(sys.stderr, self._options.verbosity, self._build_log)
            # However the command ends: a display that is left open hides the cursor.
            if context := click.get_current_context(silent=True):
                context.call_on_close(self.settle)
        self._progress.show(event)

    def forward(self, data: bytes) -> None:
        """Pass on what the configuration itself, or Guix, wrote to standard error."""
        self.settle()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()

    def settle(self) -> None:
        """End the live display, so that plain text can follow."""
        if self._progress is not None:
            progress, self._progress = self._progress, None
            # A terminal that went away needs no restoring.
            with suppress(OSError):
                progress.close()

    def line(self, text: str = "") -> None:
        """Print a line of the result."""
        self.settle()
        sys.stdout.write(f"{legible(text)}\n")

    def verbatim(self, text: str) -> None:
        """Print TEXT, which is a document of its own, as it is, with one line break at its end."""
        self.settle()
        sys.stdout.write(text.rstrip("\n") + "\n")

    def diff(self, text: str) -> None:
        """Print a line of the result, coloured by what its first character says it does."""
        self.settle()
        sys.stdout.write(f"{self.paint(text, text[:1])}\n")

    def paint(self, text: str, colour: str) -> str:
        """Return TEXT in COLOUR, a key of the table above, where results are shown in colours."""
        code = _COLOURS.get(colour) if _shows_colours(sys.stdout) else None
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def note(self, text: str) -> None:
        """Print a line for the person who watches, unless --quiet."""
        self.settle()
        if self._options.verbosity >= 0:
            sys.stderr.write(f"{legible(text)}\n")

    def no_machines(self, session: Session) -> None:
        """Say that there are no machines where SESSION asks, and where that is."""
        if self._options.verbosity < 0:
            return
        from pyguixvm.commands.where import hypervisor

        uri = hypervisor(session)
        chosen = self._options.uri is not None or "LIBVIRT_DEFAULT_URI" in session.environment
        self.note(self.told(no_machines(uri, chosen=chosen)))

    def told(self, text: str) -> str:
        """Return TEXT, whose commands are to ask the hypervisor that this one was given."""
        return reaching(text, self._options.uri)

    def mended(self, error: PyguixvmError) -> PyguixvmError:
        """Return ERROR, the commands of whose hint ask the hypervisor that this one was given."""
        error.hint = reaching(error.hint, self._options.uri)
        return error

    def document(self, value: Document) -> None:
        """Print VALUE, the whole result, as one JSON document."""
        import msgspec

        self.settle()
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        sys.stdout.buffer.flush()

    def compact(self, value: Document) -> None:
        """Print VALUE, one of several, as one line of JSON."""
        import msgspec

        self.settle()
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.buffer.flush()

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print ROWS under HEADER, in columns as wide as they need to be."""
        self.settle()
        rows = [[printable(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        for row in [header, *rows]:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")

    def error(self, error: PyguixvmError) -> None:
        """Print ERROR: a sentence, what is known about it, and what to do."""
        self.settle()
        self.mended(error)
        if self.json:
            from pyguixvm.cli import as_documents, documents

            self.document(
                documents.Failed(error=as_documents.error(error), errors=as_documents.errors(error))
            )
            return
        for line in error_lines(error, self._style):
            sys.stderr.write(f"{line}\n")

    def outcomes(self, outcomes: Sequence[Outcome], **more: Any) -> None:
        """Print OUTCOMES, what became of each machine, with MORE of the document as JSON."""
        for outcome in outcomes:
            if outcome.error is not None:
                self.mended(outcome.error)
        if self.json:
            from pyguixvm.cli import as_documents, documents

            machines = tuple(map(as_documents.deployed, outcomes))
            self.document(documents.Deployed(machines=machines, **more))
            return
        for outcome in outcomes:
            if outcome.error is not None:
                self.error(outcome.error)
            else:
                self.line(outcome_line(outcome))
        if len(outcomes) > 1:
            self.note(summary(outcomes))

    def _style(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if _shows_colours(sys.stderr) else text


def no_machines(uri: str, *, chosen: bool) -> str:
    """Return that the hypervisor at URI, CHOSEN by the user or by libvirt, has no machines."""
    said = f"No machines on {uri}."
    if not chosen and uri.endswith("/session"):
        return f"{said} That is your own hypervisor; the system's is: --connect qemu:///system"
    return f"{said} Deploy some with: pyguixvm deploy"


def _shows_colours(stream: TextIO) -> bool:
    """Whether STREAM is a terminal whose user wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def error_lines(error: PyguixvmError, style: Any = lambda text, _code: text) -> list[str]:
    """Return the lines that tell a person about ERROR; STYLE colours them."""
    where = f"{printable(error.location)}: " if error.location else ""
    # Who interrupts a command knows that it is no error.
    word = "" if isinstance(error, InterruptedRequestError) else f"{style('error:', '1;31')} "
    lines = [f"{where or 'pyguixvm: '}{word}{legible(error.message)}"]
    if isinstance(error, BuildError):
        lines += [f"  | {legible(line)}" for line in error.tail]
        if error.log:
            lines.append(f"  the whole log: {error.log}")
    if isinstance(error, NotReadyError) and error.console:
        lines.append("  the console's last lines:")
        lines += [f"  | {legible(line)}" for line in error.console]
    if error.hint:
        lines.append(f"{style('hint:', '1;36')} {legible(error.hint)}")
    if isinstance(error, EvaluationError):
        for other in error.others:
            lines += error_lines(other, style)
    return lines


def outcome_line(outcome: Outcome) -> str:
    """Return OUTCOME in one line."""
    detail = f": {outcome.detail}" if outcome.detail else ""
    if outcome.outcome == "unchanged":
        return f"{outcome.machine} unchanged, nothing to do"
    return f"{outcome.machine} {outcome.outcome}{detail}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many of OUTCOMES were which, and the names of those that failed."""
    numbers = Counter(outcome.outcome for outcome in outcomes)
    lost = [outcome.machine for outcome in outcomes if outcome.error is not None]
    said = ", ".join(f"{number} {word.replace('-', ' ')}" for word, number in numbers.items())
    named = f" ({', '.join(lost)})" if lost else ""
    return f"{len(outcomes)} machines: {said}{named}"


# With several machines one status has to stand for all: the one that asks for more.
_GRAVITY = (7, 6, 5, 4, 3, 1)


def gravest(statuses: Collection[int]) -> int:
    """Return the exit status that stands for STATUSES, those of several machines."""
    return next((status for status in _GRAVITY if status in statuses), max(statuses, default=0))
