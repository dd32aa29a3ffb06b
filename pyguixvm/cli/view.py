# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch shows on a terminal: a frozen state, and its lines; pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from rich.text import Text

from pyguixvm.cli.output import error_lines
from pyguixvm.cli.progress import DOING
from pyguixvm.cli.show import difference_line
from pyguixvm.errors import NotReadyError, PyguixvmError
from pyguixvm.events import (
    BuildOutput,
    ChangePlanned,
    Event,
    Notice,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
)
from pyguixvm.model.sizes import format_size
from pyguixvm.reconcile.apply import Outcome
from pyguixvm.reconcile.difference import Difference

# What a person calls the parts of a deployment, in their order.
_PARTS: dict[Phase, str] = {
    "evaluate": "evaluate",
    "observe": "observe",
    "build": "build",
    "grow": "grow",
    "transfer": "transfer",
    "try": "try",
    "disk": "disk",
    "update": "update",
    "stop": "switch",
    "define": "switch",
    "start": "boot",
    "ready": "ready",
    "remove": "remove",
}
_SIZED: frozenset[Phase] = frozenset({"transfer", "grow", "disk"})
_KEPT_LINES = 5
_BAR, _WIDEST_BAR, _NARROW = 10, 30, 60
_WORTH_TELLING = 0.05
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f]")
# As many characters of a hash as tell items of one name apart.
_STORE_HASH = re.compile(r"/gnu/store/([0-9a-z]{6})[0-9a-z]{26}-")
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINS_PER_SECOND = 8
_EFFECTS: Mapping[str, str] = {
    "none": "dim", "live": "green", "restart": "yellow", "replace": "magenta",
    "create": "green", "delete": "red",
}  # fmt: skip

Seconds: TypeAlias = tuple[tuple[str, float], ...]


class Doing(msgspec.Struct, frozen=True):
    """A phase that goes on SINCE then (seconds); DONE of TOTAL bytes where that is known."""

    phase: Phase
    since: float
    detail: str = ""
    done: int | None = None
    total: int | None = None


class Row(msgspec.Struct, frozen=True):
    """A machine: what is known of it, and what is DOING with it now."""

    name: str
    generation: int | None = None
    target: int | None = None
    state: str = ""
    detail: str = ""
    failed: bool = False
    doing: Doing | None = None


class Change(msgspec.Struct, frozen=True):
    """One round: what differed, and how long it took since BEGUN (seconds), when it was SAVED."""

    begun: float
    saved: str
    planned: tuple[ChangePlanned, ...] = ()
    seconds: Seconds = ()
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

    def row(self, name: str) -> Row:
        """Return what is known of machine NAME."""
        return next((row for row in self.rows if row.name == name), Row(name))


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
        rows=tuple(msgspec.structs.replace(row, doing=None) for row in view.rows),
    )


def happened(view: View, event: Event, now: float) -> View:  # noqa: PLR0911 -- one for each
    """Return VIEW after EVENT, NOW on the monotonic clock."""
    match event:
        case PhaseStarted(phase=phase, machine=machine, detail=detail):
            return _doing(view, machine, Doing(phase, now, detail))
        case PhaseProgress(machine=machine, done=done, total=total):
            doing = view.shared if machine is None else view.row(machine).doing
            if doing is None:
                return view
            return _doing(view, machine, msgspec.structs.replace(doing, done=done, total=total))
        case PhaseFinished(phase=phase, machine=machine, seconds=seconds, detail=detail):
            change = _spent(view.change, phase, seconds)
            shown = change if change.planned else view.shown
            view = msgspec.structs.replace(view, change=change, shown=shown, log="")
            view = _doing(view, machine, None)
            return view if machine is None else _reached(view, machine, phase, detail)
        case ChangePlanned():
            return _planned(view, event)
        case BuildOutput(line=line):
            return msgspec.structs.replace(view, log=plain(line))
        case Notice(message=message, machine=machine, warning=warning):
            words = f"{'! ' if warning else ''}{f'{machine}: ' if machine else ''}{message}"
            notices = (*view.notices, plain(words))[-_KEPT_LINES:]
            return msgspec.structs.replace(view, notices=notices)
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
        well=view.well + (status == 0),
        failed=view.failed + (status != 0),
    )


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


def _spent(change: Change, phase: Phase, seconds: float) -> Change:
    spent = dict(change.seconds)
    part = _PARTS[phase]
    spent[part] = spent.get(part, 0.0) + seconds
    return msgspec.structs.replace(change, seconds=tuple(spent.items()))


_STATES: Mapping[Phase, str] = {
    "start": "booting",
    "ready": "running",
    "stop": "shut off",
}


def _reached(view: View, machine: str, phase: Phase, detail: str) -> View:
    row = view.row(machine)
    state = _STATES.get(phase)
    if state is None:
        return view
    reached = msgspec.structs.replace(row, state=state, detail=detail if phase == "ready" else "")
    return _with(view, reached)


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


def lines(view: View, width: int, height: int, now: float) -> list[Text]:
    """Return VIEW as at most HEIGHT lines of at most WIDTH cells, NOW on the monotonic clock.

    What does not fit is left out from the middle: machines, errors and the last line stay.
    """
    width, height = max(width, 10), max(height, 4)
    top = [_heading(view, width), Text("─" * width, style="dim")]
    top += [_row(view, row, width, now) for row in view.rows]
    if view.shared is not None:
        top.append(_activity(view.shared, width, now, " "))
    top = top[: height - 3]
    bottom = [Text("─" * width, style="dim"), _footer(view, width, now)]
    room = height - len(top) - len(bottom)
    body = _fitting(view, width, room, now)
    blank = [Text("")] * (room - len(body))
    shown = [*top, *body, *blank, *bottom]
    for line in shown:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return shown


def _fitting(view: View, width: int, room: int, now: float) -> list[Text]:
    """Return what stands between the machines and the last line, in at most ROOM lines."""
    problems = [line for error in view.problems for line in _problem(error, width)]
    change = view.shown
    above = [Text(""), *problems] if problems else []
    below: list[Text] = []
    differences: list[Text] = []
    if change is not None:
        above += [Text(""), _total(change, now)]
        differences = [line for planned in change.planned for line in _plan(planned, width)]
        below += _parts(change, view, width, now)
    remarks = list(_remarks(view, width))
    below += [Text(""), *remarks] if remarks else []
    # The rest says more in one line than they do.
    differences = _cut(differences, max(room - len(above) - len(below), 2))
    return _cut([*above, *differences, *below], room)


def _cut(found: list[Text], room: int) -> list[Text]:
    """Return FOUND in at most ROOM lines."""
    if len(found) <= room:
        return found
    left_out = Text(f" … {len(found) - room + 1} more lines", style="dim")
    return [*found[: room - 1], left_out] if room > 0 else []


def plain(text: str) -> str:
    """TEXT without what would steer the terminal."""
    return _ESCAPES.sub(" ", text).rstrip()


def _heading(view: View, width: int) -> Text:
    counts = Text()
    if view.well or view.failed:
        counts.append(f"{view.well} ✓", "green")
        if view.failed:
            counts.append(f"  {view.failed} ✗", "red")
    room = max(width - counts.cell_len - 3, 5)
    heading = Text.assemble((" pyguixvm watch ", "bold"), (view.config, "bold cyan"))
    heading.truncate(room, overflow="ellipsis", pad=True)
    return Text.assemble(heading, " ", counts)


def _row(view: View, row: Row, width: int, now: float) -> Text:
    names = max(len(each.name) for each in view.rows)
    mark = _spin(now) if row.doing else "✗" if row.failed else "●"
    calm = "green" if row.state == "running" else "yellow"
    colour = "cyan" if row.doing else "red" if row.failed else calm
    found = "-" if row.generation is None else f"g{row.generation}"
    number = found if row.target in {None, row.generation} else f"{found}→g{row.target}"
    line = Text.assemble(
        (f" {mark} ", colour),
        (row.name.ljust(min(names, width // 3)), "bold"),
        (f"  {number:<7}", "magenta"),
    )
    if row.doing is not None:
        return _activity(row.doing, width, now, line)
    line.append(f" {row.state}", colour)
    if row.detail and not row.failed:
        line.append(f"  {plain(row.detail)}", "dim")
    return line


def _activity(doing: Doing, width: int, now: float, before: str | Text) -> Text:
    """Return what goes on, how far it is where that is known, and for how long it has."""
    if before == " ":
        before = Text.assemble((f" {_spin(now)} ", "cyan"))
    text = Text.assemble(before, (f" {DOING[doing.phase]}" if str(before).strip() else ""))
    seconds = f" {max(now - doing.since, 0.0):.1f} s"
    if doing.done is not None and doing.total:
        share = min(doing.done / doing.total, 1.0)
        if width > _NARROW:
            if doing.phase in _SIZED:
                text.append(f" {format_size(doing.done)} of {format_size(doing.total)}", "dim")
            full = round(share * _BAR)
            text.append(" " + "━" * full, "cyan").append("━" * (_BAR - full), "dim")
        text.append(f" {share:.0%}")
    text.truncate(max(width - len(seconds), 1), overflow="ellipsis")
    return text.append(seconds, "dim")


def _spin(now: float) -> str:
    return _SPINNER[int(now * _SPINS_PER_SECOND) % len(_SPINNER)]


def _total(change: Change, now: float) -> Text:
    total = (change.ended or now) - change.begun
    return Text.assemble(
        (" last change", "bold"),
        (f"  {change.saved}  {total:.1f} s since the save", "dim"),
    )


def _plan(planned: ChangePlanned, width: int) -> Iterator[Text]:
    name = Text.assemble("   ", (planned.machine, "bold"), "  ")
    if planned.refusal is not None:
        yield name.append("refused", "red")
        return
    if planned.effect == "none" and not planned.differences:
        yield name.append("nothing differs", "dim")
        return
    yield name.append(planned.effect, _EFFECTS.get(planned.effect, ""))
    if planned.strategy is not None:
        way = f"{planned.strategy}: {planned.reason}"
        yield from _wrapped(way, width, "     by ", "cyan")
    for difference in planned.differences:
        line = difference_line(Difference(**msgspec.structs.asdict(difference)))
        words = _STORE_HASH.sub(r"\1…-", line)
        yield from _wrapped(words, width, "     ", "")


def _parts(change: Change, view: View, width: int, now: float) -> Iterator[Text]:
    """Yield a line with a bar for each part that took time."""
    spent = dict(change.seconds)
    current = _current(view) if change is view.change or change == view.change else None
    if current is not None and change.ended is None:
        part = _PARTS[current.phase]
        spent[part] = spent.get(part, 0.0) + max(now - current.since, 0.0)
    told = {part: seconds for part, seconds in spent.items() if seconds >= _WORTH_TELLING}
    longest = max(told.values(), default=1.0)
    widest = max(min(_WIDEST_BAR, width - 26), 1)
    for part in dict.fromkeys(_PARTS.values()):
        if part not in told:
            continue
        seconds = told[part]
        bar = "▬" * max(round(widest * seconds / longest), 1)
        yield Text.assemble(f"   {part:<9}", (f"{seconds:8.1f} s  ", ""), (bar, "blue"))


def _current(view: View) -> Doing | None:
    doing = [row.doing for row in view.rows if row.doing is not None]
    return doing[0] if doing else view.shared


def _problem(error: PyguixvmError, width: int) -> Iterator[Text]:
    for line in error_lines(error):
        where = error.location
        style = "dim" if line.startswith("  |") else "cyan" if line.startswith("hint:") else "red"
        wrapped = list(_wrapped(plain(line), width, " ", style))
        if where and line.startswith(where):
            for part in wrapped[:1]:
                part.stylize("bold red", 0, 1 + len(where))
        yield from wrapped


def _remarks(view: View, width: int) -> Iterator[Text]:
    if view.log:
        yield Text(f" {view.log}", style="dim")
    for notice in view.notices:
        colour = "yellow" if notice.startswith("! ") else "cyan"
        yield from _wrapped(notice, width, " ", colour)
    for line in view.said:
        yield Text(f" | {line}", style="dim")


def _wrapped(text: str, width: int, indent: str, style: str) -> Sequence[Text]:
    found = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent) + "  ",
        break_on_hyphens=False,
    )
    return [Text(line, style=style) for line in found]


def _footer(view: View, width: int, now: float) -> Text:
    if not view.waiting:
        seconds = max(now - view.change.begun, 0.0)
        return Text.assemble(
            (" working", "bold cyan"),
            (f" for {seconds:.0f} s  saved {view.change.saved}  ^C ends", "dim"),
        )
    last = f"  last save {view.change.saved}  ^C ends"
    words = f" waiting for {view.config} to be saved"
    if len(words) + len(last) > width:
        words = f" waiting for {view.config.rpartition('/')[2]}"
    return Text.assemble((words, "bold red" if view.problems else "bold green"), (last, "dim"))
