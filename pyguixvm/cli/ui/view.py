# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch shows on a terminal: the state, as one event after the other leaves it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli.ui.spent import Spent
from pyguixvm.errors import NotReadyError, PyguixvmError, RolledBackError
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

# What a person calls the parts of a deployment, in their order.
PARTS: dict[Phase, str] = {
    "evaluate": "evaluate",
    "observe": "observe",
    "build": "build",
    "fetch": "fetch",
    "grow": "grow",
    "verify": "transfer",
    "transfer": "transfer",
    "move": "transfer",
    "try": "try",
    "disk": "disk",
    "update": "update",
    "stop": "switch",
    "define": "switch",
    "reboot": "switch",
    "activate": "activate",
    "start": "boot",
    "ready": "ready",
    "remove": "remove",
}
_KEPT_LINES = 5
_KEPT_ROUNDS = 100


class Doing(msgspec.Struct, frozen=True):
    """A phase that goes on SINCE then (seconds); DONE of TOTAL bytes where that is known.

    What is MISSING is waited for, UNTIL then (seconds) at most; CONSOLE is the last line that
    the guest wrote there, or what changes it.
    """

    phase: Phase
    since: float
    detail: str = ""
    done: int | None = None
    total: int | None = None
    missing: str = ""
    until: float | None = None
    console: str = ""


class Row(msgspec.Struct, frozen=True):
    """A machine: what is known of it, and what is DOING with it now."""

    name: str
    generation: int | None = None
    target: int | None = None
    state: str = ""
    detail: str = ""
    failed: bool = False
    doing: Doing | None = None
    # It was waited for, and was not ready: what comes then takes the change back.
    waited: bool = False
    returning: bool = False


class Past(msgspec.Struct, frozen=True):
    """A round that ended with STATUS after SECONDS; WHAT was done, when it was SAVED."""

    saved: str
    seconds: float
    what: str
    status: int


class Change(msgspec.Struct, frozen=True):
    """One round: what differed, and how long it took since BEGUN (seconds), when it was SAVED."""

    begun: float
    saved: str
    planned: tuple[ChangePlanned, ...] = ()
    spent: Spent = Spent()
    ended: float | None = None


class View(msgspec.Struct, frozen=True):
    """All that is shown; CHANGE is the round that goes on, or the last one."""

    config: str
    change: Change
    # The last round of which a plan is known.
    shown: Change | None = None
    rows: tuple[Row, ...] = ()
    shared: Doing | None = None
    problems: tuple[PyguixvmError, ...] = ()
    notices: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    log: str = ""
    waiting: bool = False
    well: int = 0
    failed: int = 0
    # The rounds that ended, the last one first.
    history: tuple[Past, ...] = ()
    # When it was saved again, while a round went on that has to be finished.
    saved_again: str | None = None
    paused: bool = False
    # What is shown instead: the whole error, or the keys.
    page: Literal["error", "keys"] | None = None

    def row(self, name: str) -> Row:
        """Return what is known of machine NAME."""
        return next((row for row in self.rows if row.name == name), Row(name))


def plain(text: str) -> str:
    """Return TEXT as one line that does not steer the terminal."""
    return printable(legible(text).replace("\n", " ")).rstrip()


def began(view: View, saved: str, at: float) -> View:
    """Return VIEW when a round begins: AT on the monotonic clock, SAVED on the wall's."""
    return msgspec.structs.replace(
        view,
        change=Change(begun=at, saved=saved),
        shared=None,
        problems=(),
        notices=(),
        said=(),
        log="",
        waiting=False,
        saved_again=None,
        rows=tuple(
            msgspec.structs.replace(row, doing=None, waited=False, returning=False)
            for row in view.rows
        ),
    )


def happened(view: View, event: Event, now: float) -> View:  # noqa: PLR0911 -- one for each
    """Return VIEW after EVENT, NOW on the monotonic clock."""
    match event:
        case PhaseStarted(phase=phase, machine=machine, detail=detail):
            return _doing(_turned(view, machine, phase), machine, Doing(phase, now, detail))
        case PhaseProgress(machine=machine, done=done, total=total):
            doing = view.shared if machine is None else view.row(machine).doing
            if doing is None:
                return view
            return _doing(view, machine, msgspec.structs.replace(doing, done=done, total=total))
        case Waiting(machine=machine, missing=missing, left=left, console=console):
            waiting = view.row(machine).doing or Doing("ready", now)
            return _doing(
                view,
                machine,
                msgspec.structs.replace(
                    waiting, missing=missing, until=now + left, console=plain(console).strip()
                ),
            )
        case PhaseFinished(phase=phase, machine=machine, seconds=seconds, detail=detail):
            spent = view.change.spent.going_on(PARTS[phase], now - seconds, now)
            change = msgspec.structs.replace(view.change, spent=spent)
            shown = change if change.planned else view.shown
            view = msgspec.structs.replace(view, change=change, shown=shown, log="")
            view = _doing(view, machine, None)
            return view if machine is None else _reached(view, machine, phase, detail)
        case ChangePlanned():
            return _planned(view, event)
        case MachineEnded(machine=machine, failure=failure):
            row = view.row(machine)
            lost = row.failed or failure is not None
            return _with(view, msgspec.structs.replace(row, doing=None, failed=lost))
        case BuildOutput(line=line):
            return msgspec.structs.replace(view, log=plain(line))
        case GuestOutput(machine=machine, line=line):
            changed = view.row(machine).doing or Doing("activate", now)
            heard = msgspec.structs.replace(changed, console=plain(line).strip())
            return _doing(view, machine, heard)
        case Notice(message=message, machine=machine, warning=warning):
            words = f"{'! ' if warning else ''}{f'{machine}: ' if machine else ''}{message}"
            return _noticed(view, words)
        case _:
            return view


def said(view: View, text: str) -> View:
    """Return VIEW after the configuration, or a hook, wrote TEXT."""
    lines = (*view.said, *(plain(line) for line in text.splitlines() if line.strip()))
    return msgspec.structs.replace(view, said=lines[-_KEPT_LINES:])


def failed(view: View, error: PyguixvmError) -> View:
    """Return VIEW after ERROR."""
    return msgspec.structs.replace(view, problems=(*view.problems, error))


def came_out(view: View, outcomes: Iterable[Outcome]) -> View:
    """Return VIEW with OUTCOMES, what became of each machine."""
    for outcome in outcomes:
        row = view.row(outcome.machine)
        if outcome.error is not None:
            view = failed(view, outcome.error)
            # Who says so later than the error itself cannot know more.
            state = "not ready" if isinstance(outcome.error, NotReadyError) else row.state
            if isinstance(outcome.error, RolledBackError):
                state = "running"
            row = msgspec.structs.replace(row, failed=True, state=state)
        else:
            detail = " ".join(outcome.addresses) or outcome.detail
            row = msgspec.structs.replace(
                row,
                failed=False,
                generation=row.target,
                state="running" if outcome.outcome != "unchanged" else row.state,
                detail=detail or row.detail,
            )
        view = _with(view, msgspec.structs.replace(row, doing=None, target=row.generation))
    return view


def ended(view: View, status: int, now: float) -> View:
    """Return VIEW when a round ended with STATUS, NOW on the monotonic clock."""
    change = msgspec.structs.replace(view.change, ended=now)
    done = ", ".join(f"{p.machine} {p.effect}" for p in change.planned if p.effect != "none")
    problem = plain(view.problems[0].message) if view.problems else ""
    past = Past(change.saved, now - change.begun, problem or done or "nothing differs", status)
    names = {planned.machine for planned in change.planned}
    rows = tuple(
        msgspec.structs.replace(row, doing=None)
        for row in view.rows
        if not names or row.name in names
    )
    return msgspec.structs.replace(
        view,
        change=change,
        shown=change if change.planned else view.shown,
        rows=rows,
        shared=None,
        log="",
        waiting=True,
        history=(past, *view.history)[:_KEPT_ROUNDS],
        well=view.well + (status == 0),
        failed=view.failed + (status != 0),
    )


def _turned(view: View, machine: str | None, phase: Phase) -> View:
    """Return VIEW with what it means that PHASE of MACHINE begins after it was waited for."""
    if machine is None:
        return view
    row = view.row(machine)
    if phase == "ready" and not row.returning:
        return _with(view, msgspec.structs.replace(row, waited=True))
    if row.waited and phase in {"stop", "define", "start"}:
        return _with(view, msgspec.structs.replace(row, waited=False, returning=True))
    return view


def saved_again(view: View, saved: str) -> View:
    """Return VIEW after it was SAVED while a round goes on that has to be finished."""
    return msgspec.structs.replace(view, saved_again=saved)


def pressed(view: View, key: str) -> View:
    """Return VIEW after KEY, of those that change nothing but what is shown."""
    pages: dict[str, Literal["error", "keys"]] = {"e": "error", "?": "keys"}
    page = pages.get(key)
    if key == "p":
        return msgspec.structs.replace(view, paused=not view.paused)
    if page == "error" and not view.problems:
        return view
    # The same key, or any other, leaves a page.
    return msgspec.structs.replace(view, page=None if view.page is not None else page)


def _doing(view: View, machine: str | None, doing: Doing | None) -> View:
    if machine is None:
        return msgspec.structs.replace(view, shared=doing)
    return _with(view, msgspec.structs.replace(view.row(machine), doing=doing))


def _with(view: View, row: Row) -> View:
    if any(each.name == row.name for each in view.rows):
        rows = tuple(row if each.name == row.name else each for each in view.rows)
    else:
        rows = (*view.rows, row)
    return msgspec.structs.replace(view, rows=rows)


_STATES: Mapping[Phase, str] = {
    "start": "booting",
    "ready": "running",
    "stop": "shut off",
}


def _reached(view: View, machine: str, phase: Phase, detail: str) -> View:
    row = view.row(machine)
    if phase == "activate" and detail:
        # Which services were restarted is gone from everywhere else.
        view = _noticed(view, f"{machine}: {detail}")
    if phase == "ready":
        row = msgspec.structs.replace(row, waited=False)
    state = _STATES.get(phase)
    if state is None:
        return view
    reached = msgspec.structs.replace(row, state=state, detail=detail if phase == "ready" else "")
    return _with(view, reached)


def _noticed(view: View, words: str) -> View:
    notices = (*view.notices, plain(words))[-_KEPT_LINES:]
    return msgspec.structs.replace(view, notices=notices)


def _planned(view: View, event: ChangePlanned) -> View:
    row = msgspec.structs.replace(
        view.row(event.machine),
        generation=event.generation,
        target=event.target,
        state=event.state or "not there yet",
        failed=event.refusal is not None,
    )
    change = msgspec.structs.replace(view.change, planned=(*view.change.planned, event))
    return _with(msgspec.structs.replace(view, change=change, shown=change), row)
