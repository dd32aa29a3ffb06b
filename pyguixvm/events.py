# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens while a request is carried out, as data.

The work emits events; the command line shows them on a terminal, as plain
lines, or as JSON.  Nothing else prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Literal, TypeAlias, TypeVar

import msgspec

from pyguixvm.model.difference import Difference, Effect
from pyguixvm.model.system_change import SystemChange

Phase: TypeAlias = Literal[
    "evaluate", "observe", "build", "fetch", "grow", "transfer", "disk", "define", "update",
    "activate", "start", "ready", "stop", "reboot", "remove", "try", "verify", "move",
]  # fmt: skip


class PhaseStarted(msgspec.Struct, frozen=True, tag="phase-started", rename="kebab"):
    """A phase begins; MACHINE is None for what concerns all of them."""

    phase: Phase
    machine: str | None = None
    detail: str = ""


class PhaseProgress(msgspec.Struct, frozen=True, tag="phase-progress", rename="kebab"):
    """DONE of TOTAL bytes (or steps) of a phase; TOTAL is None while unknown."""

    phase: Phase
    done: int
    total: int | None = None
    machine: str | None = None


class PhaseFinished(msgspec.Struct, frozen=True, tag="phase-finished", rename="kebab"):
    """A phase ended well after SECONDS; DETAIL is what it led to."""

    phase: Phase
    seconds: float
    machine: str | None = None
    detail: str = ""


class Waiting(msgspec.Struct, frozen=True, tag="waiting", rename="kebab"):
    """MACHINE boots, and what is MISSING of its readiness is waited for.

    It is given up after LEFT more seconds.  CONSOLE is the last line that the guest wrote
    on its serial console, "" as long as there is none.
    """

    machine: str
    missing: str
    left: float
    console: str = ""


class DependenciesFound(msgspec.Struct, frozen=True, tag="dependencies-found", rename="kebab"):
    """What a configuration declares depends on FILES, by their absolute names.

    Some may not exist.  An evaluation that fails may not have come to all of them.
    """

    files: tuple[str, ...]


class ChangePlanned(msgspec.Struct, frozen=True, tag="planned", rename="kebab"):
    """What is going to happen to MACHINE, and why in this way.

    GENERATION and STATE are what was found, None for a machine that is yet to come;
    TARGET is the generation that it will have.  SYSTEM_CHANGES is what comes, goes and changes
    with its operating system.  STRATEGY is the way to a new operating
    system, None where there is none, and REASON says why it was chosen.  REFUSAL says why
    nothing may be done.
    """

    machine: str
    effect: Effect
    differences: tuple[Difference, ...] = ()
    strategy: str | None = None
    reason: str | None = None
    refusal: str | None = None
    generation: int | None = None
    target: int | None = None
    state: str | None = None
    system_changes: tuple[SystemChange, ...] = ()


class BuildOutput(msgspec.Struct, frozen=True, tag="build-output", rename="kebab"):
    """One line that guix or a builder wrote."""

    line: str


class GuestOutput(msgspec.Struct, frozen=True, tag="guest-output", rename="kebab"):
    """One line that a program wrote which changes the guest of MACHINE."""

    machine: str
    line: str


class Notice(msgspec.Struct, frozen=True, tag="notice", rename="kebab"):
    """Something the user should know; WARNING when they may want to act on it."""

    message: str
    machine: str | None = None
    warning: bool = False


class MachineEnded(msgspec.Struct, frozen=True, tag="machine-ended", rename="kebab"):
    """Nothing more is done with MACHINE, one of several; FAILURE is what went wrong, if anything.

    What became of it in all is told with the others.
    """

    machine: str
    failure: str | None = None


Event: TypeAlias = (
    PhaseStarted
    | PhaseProgress
    | PhaseFinished
    | Waiting
    | DependenciesFound
    | ChangePlanned
    | BuildOutput
    | GuestOutput
    | Notice
    | MachineEnded
)
Emit: TypeAlias = Callable[[Event], None]
_Told = TypeVar("_Told")


def ignore(event: Event) -> None:
    """Drop the event: for callers that want no progress."""


def in_turn(
    lock: AbstractContextManager[object], tell: Callable[[_Told], None]
) -> Callable[[_Told], None]:
    """Return TELL for those who work side by side: it is called with LOCK held."""

    def tell_in_turn(what: _Told) -> None:
        with lock:
            tell(what)

    return tell_in_turn


def undisturbed(tell: Callable[[_Told], None]) -> Callable[[_Told], None]:
    """Return TELL as work can rely on it: what cannot be told is not told, and nothing fails.

    A pipe that nobody reads any more, a full disk or a terminal that went away must
    not end a deployment half-way.
    """

    def tell_if_possible(what: _Told) -> None:
        with suppress(Exception):
            tell(what)

    return tell_if_possible


class Count:
    """Counts the bytes that a PHASE has done, of TOTAL, and emits them."""

    def __init__(self, emit: Emit, phase: Phase, total: int, machine: str | None) -> None:
        """Nothing is done yet."""
        self._emit = emit
        self._phase = phase
        self._total = total
        self._machine = machine
        self._done = 0

    def add(self, count: int) -> None:
        """COUNT more bytes are done."""
        self._done += count
        self._emit(PhaseProgress(self._phase, self._done, self._total, self._machine))


class PhaseResult:
    """Lets the body of a phase say what it led to."""

    detail: str = ""


@contextmanager
def phase(
    emit: Emit,
    name: Phase,
    machine: str | None = None,
    detail: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[PhaseResult]:
    """Emit the start of phase NAME, and its end unless the body raises."""
    begun = clock()
    result = PhaseResult()
    emit(PhaseStarted(phase=name, machine=machine, detail=detail))
    yield result
    emit(PhaseFinished(phase=name, machine=machine, seconds=clock() - begun, detail=result.detail))
