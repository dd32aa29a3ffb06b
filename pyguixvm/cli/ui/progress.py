# SPDX-License-Identifier: GPL-3.0-or-later
"""Events as text: live on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from pyguixvm.cli.differences import system_lines
from pyguixvm.cli.ui.pace import Pace
from pyguixvm.events import (
    BuildOutput,
    ChangePlanned,
    Event,
    GuestOutput,
    MachineEnded,
    Notice,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    Waiting,
)
from pyguixvm.printable import legible, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from pyguixvm.cli.build_log import BuildLog

DOING: dict[Phase, str] = {
    "evaluate": "evaluating",
    "observe": "looking at the hypervisor",
    "build": "building",
    "fetch": "fetching the image",
    "grow": "growing the root volume",
    "disk": "preparing a data disk",
    "transfer": "sending the volume",
    "define": "defining the domain",
    "update": "changing the guest",
    "activate": "switching to the new system",
    "start": "starting",
    "ready": "waiting for the guest",
    "stop": "shutting down",
    "reboot": "rebooting",
    "remove": "removing",
    "try": "trying it in a throwaway copy",
    "verify": "reading a base image",
    "move": "moving the guest",
}

DONE: dict[Phase, str] = {
    "evaluate": "evaluated",
    "observe": "hypervisor looked at",
    "build": "built",
    "fetch": "image fetched",
    "grow": "root volume grown",
    "disk": "data disk ready",
    "transfer": "volume sent",
    "define": "domain defined",
    "update": "guest changed",
    "activate": "new system active",
    "start": "started",
    "ready": "ready",
    "stop": "shut down",
    "reboot": "rebooted",
    "remove": "removed",
    "try": "tried in a throwaway copy",
    "verify": "base image read",
    "move": "guest moved",
}

# What waits for a guest, for so long at most: who reads a log sees what goes on.
_WAITS = frozenset({"stop", "reboot", "update", "activate"})

# So many machines are shown at once.
_MOST_LINES = 8


class Progress(Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None:
        """Show EVENT."""

    def close(self) -> None:
        """End the display; what was shown for good stays."""


def progress(stream: TextIO, verbosity: int, log: BuildLog) -> Progress:
    """Return the right display for STREAM; LOG takes what is too much for it."""
    if stream.isatty() and verbosity >= 0:
        return LiveProgress(stream, verbosity)
    return PlainProgress(stream, verbosity, log)


def started_line(event: PhaseStarted) -> str:
    """Return the line that says which phase begins."""
    detail = f" {event.detail}" if event.detail else ""
    return f"{_whose(event.machine)}{DOING[event.phase]}{detail}"


def finished_line(event: PhaseFinished) -> str:
    """Return the line that a finished phase leaves behind."""
    detail = f": {event.detail}" if event.detail else ""
    return f"{_whose(event.machine)}{DONE[event.phase]}{detail} ({event.seconds:.1f} s)"


def waiting_words(missing: str, left: float) -> str:
    """Return what is still MISSING, and for how many seconds it will be waited for."""
    return f"waiting for {missing}, at most {max(left, 0):.0f} s more"


def planned_line(event: ChangePlanned) -> str | None:
    """Return what is going to happen, and in which way; None if nothing is."""
    if event.refusal is not None or (event.effect == "none" and not event.differences):
        return None
    paths = ", ".join(difference.path for difference in event.differences)
    line = f"{event.machine}: {event.effect}{f' for {paths}' if paths else ''}"
    return line if event.strategy is None else f"{line}, {event.strategy}: {event.reason}"


def _whose(machine: str | None) -> str:
    return f"{machine}: " if machine else ""


class PlainProgress:
    """One line for each thing that happened."""

    def __init__(self, stream: TextIO, verbosity: int, log: BuildLog) -> None:
        """Write to STREAM; nothing but warnings when VERBOSITY is negative.

        LOG takes what Guix writes, unless VERBOSITY is positive.
        """
        self._stream = stream
        self._verbosity = verbosity
        self._log = log
        self._missing: dict[str, str] = {}

    def show(self, event: Event) -> None:  # noqa: PLR0912 -- one for each
        """Write EVENT, if it is worth a line."""
        match event:
            case Notice(message=message, machine=machine, warning=warning):
                if warning or self._verbosity >= 0:
                    self._write(f"{_whose(machine)}{'warning: ' if warning else ''}{message}")
            case _ if self._verbosity < 0:
                pass
            case BuildOutput(line=line):
                self._build_output(line)
            case PhaseFinished():
                self._write(finished_line(event))
            case Waiting(machine=machine, missing=missing, left=left):
                # Not each line of its console, which every boot has by the hundred.
                if self._missing.get(machine) != missing:
                    self._missing[machine] = missing
                    self._write(f"{machine}: {waiting_words(missing, left)}")
            case MachineEnded(machine=machine, failure=str(failure)):
                self._write(f"{_whose(machine)}failed: {failure}")
            case ChangePlanned():
                if planned := planned_line(event):
                    self._write(planned)
                for line in system_lines(event.system_changes):
                    self._write(f"{event.machine}: {line}")
            case GuestOutput(machine=machine, line=line) if self._verbosity > 0:
                self._write(f"{_whose(machine)}{line}")
            case PhaseStarted(phase=phase, detail=until) if self._verbosity > 0 or (
                until and phase in _WAITS
            ):
                self._write(started_line(event))

    def _build_output(self, line: str) -> None:
        if self._verbosity > 0:
            self._write(line)
            return
        begun = self._log.path is not None
        try:
            self._log.write(line)
        except OSError:
            self._write(line)
            return
        if not begun:
            self._write(f"{DOING['build']}; what Guix writes goes to {self._log.path}")

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, line: str) -> None:
        self._stream.write(f"{legible(line)}\n")
        self._stream.flush()


class LiveProgress:
    """A spinner with what is being done with each machine, above it what was done."""

    def __init__(
        self, stream: TextIO, verbosity: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on the terminal STREAM; the display begins with the first event."""
        self._stream = stream
        self._clock = clock
        self._verbosity = verbosity
        self._console: Console | None = None
        self._status: Status | None = None
        # What goes on, by machine, None for what concerns all; and how far it is.
        self._doing: dict[str | None, str] = {}
        self._details: dict[str | None, str] = {}
        self._paces: dict[str | None, Pace] = {}
        self._places: dict[str | None, int] = {}
        self._builder: str | None = None

    def show(self, event: Event) -> None:  # noqa: PLR0912 -- one for each
        """Draw EVENT."""
        match event:
            case PhaseStarted(phase=phase, machine=machine, detail=detail):
                self._begin(machine, f"{DOING[phase]}{f' {detail}' if detail else ''}")
                if phase == "build":
                    self._builder = machine
            case PhaseProgress(machine=machine, done=done, total=total):
                now = self._clock()
                pace = self._paces.setdefault(machine, Pace(now, done))
                self._detail(machine, pace.words(done, total, now))
            case Waiting(machine=machine, missing=missing, left=left, console=console):
                self._begin(machine, waiting_words(missing, left))
                self._detail(machine, console.strip())
            case BuildOutput(line=line) if self._verbosity == 0:
                self._detail(self._builder, line.strip())
            case BuildOutput(line=line):
                self._print(line)
            case GuestOutput(machine=machine, line=line) if self._verbosity == 0:
                self._detail(machine, line.strip())
            case GuestOutput(machine=machine, line=line):
                self._print(f"{_whose(machine)}{line}")
            case PhaseFinished(machine=machine):
                self._print(finished_line(event), mark="✓", colour="green")
                self._end(machine)
            case MachineEnded(machine=machine, failure=failure):
                if failure is not None:
                    self._print(f"{_whose(machine)}{failure}", mark="✗", colour="red")
                self._end(machine)
            case ChangePlanned():
                self._places.setdefault(event.machine, len(self._places))
                if planned := planned_line(event):
                    self._print(planned, mark="→", colour="cyan")
                for line in system_lines(event.system_changes):
                    self._print(f"{event.machine}: {line}", mark="→", colour="cyan")
            case Notice(message=message, machine=machine, warning=warning):
                self._print(
                    f"{_whose(machine)}{message}",
                    mark="!" if warning else "·",
                    colour="yellow" if warning else "cyan",
                )

    def close(self) -> None:
        """Take the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _terminal(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=self._stream, highlight=False)
        return self._console

    def _begin(self, machine: str | None, doing: str) -> None:
        # Each has the same place in all its phases.
        self._places.setdefault(machine, len(self._places))
        self._doing[machine] = doing
        self._details.pop(machine, None)
        self._paces.pop(machine, None)
        self._update()

    def _detail(self, machine: str | None, detail: str) -> None:
        if machine in self._doing:
            self._details[machine] = detail
            self._update()

    def _end(self, machine: str | None) -> None:
        self._doing.pop(machine, None)
        self._details.pop(machine, None)
        self._update()

    def _line(self, machine: str | None) -> str:
        detail = self._details.get(machine)
        return f"{_whose(machine)}{self._doing[machine]}{f': {detail}' if detail else ''}"

    def going_on(self) -> list[str]:
        """Return a line for each machine that something is done with, as many as can be shown."""
        shown = [self._line(m) for m in sorted(self._doing, key=self._places.__getitem__)]
        # What does not fit on a terminal could not be taken away from it again.
        most = max(min(_MOST_LINES, self._terminal().height - 2), 1)
        if len(shown) > most:
            shown = [*shown[: most - 1], f"… and {len(shown) - most + 1} more"]
        return shown

    def _update(self) -> None:
        from rich.text import Text

        console = self._terminal()
        # In a column beside the spinner.
        lines = "\n  ".join(printable(legible(line)) for line in self.going_on())
        line = Text(lines, no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = console.status(line)
            self._status.start()
        else:
            self._status.update(line)

    def _print(self, text: str, mark: str = "", colour: str = "") -> None:
        from rich.text import Text

        text = legible(text)
        line = Text.assemble((f"{mark} ", colour), text) if mark else Text(text)
        self._terminal().print(line)
