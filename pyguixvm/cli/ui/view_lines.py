# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch shows on a terminal: the lines of a state; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from pyguixvm.cli.differences import difference_lines
from pyguixvm.cli.output import error_lines
from pyguixvm.cli.ui.progress import DOING
from pyguixvm.cli.ui.view import PARTS, Change, Doing, Row, View, plain
from pyguixvm.errors import PyguixvmError
from pyguixvm.events import ChangePlanned, Phase
from pyguixvm.model.sizes import format_size

_SIZED: frozenset[Phase] = frozenset({"transfer", "fetch", "grow", "disk", "verify", "move"})
_BAR, _WIDEST_BAR, _NARROW = 10, 30, 60
_WORTH_TELLING = 0.05
_LEAST_HISTORY = 4
KEYS = {
    "d": "deploy now",
    "p": "pause, or go on: saves are not taken up meanwhile",
    "e": "show the error whole, and again to go back",
    "q": "quit, as Control-C does",
    "?": "show this, and again to go back",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINS_PER_SECOND = 8
_EFFECTS: Mapping[str, str] = {
    "none": "dim", "live": "green", "restart": "yellow", "replace": "magenta",
    "create": "green", "delete": "red",
}  # fmt: skip


def lines(view: View, width: int, height: int, now: float) -> list[Text]:
    """Return VIEW as at most HEIGHT lines of at most WIDTH cells, NOW on the monotonic clock.

    What does not fit is left out from the middle: machines, errors and the last line stay.
    """
    width, height = max(width, 10), max(height, 4)
    top = [_heading(view, width), Text("─" * width, style="dim")]
    for row in view.rows:
        top += [_row(view, row, width, now), *_heard(row)]
    if view.shared is not None:
        top.append(_activity(view.shared, width, now, " "))
    top = top[: height - 3]
    bottom = [Text("─" * width, style="dim"), _footer(view, width, now)]
    room = height - len(top) - len(bottom)
    body = _fitting(view, width, room, now)
    if view.page is not None:
        body = _cut(list(_page(view, width)), room)
    else:
        body += _history(view, width, room - len(body))
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


def _page(view: View, width: int) -> Iterator[Text]:
    yield Text("")
    if view.page == "error":
        for error in view.problems:
            yield from _problem(error, width)
        return
    for key, does in KEYS.items():
        yield Text.assemble((f"   {key:<3}", "bold cyan"), does)


def _history(view: View, width: int, room: int) -> list[Text]:
    """Return the last rounds, as many as fit into ROOM lines, if there is more to tell of them."""
    if room < _LEAST_HISTORY or len(view.history) < 2:  # noqa: PLR2004 -- one is shown above
        return []
    found = [Text(""), Text(" earlier rounds", style="bold")]
    for past in view.history[: room - len(found)]:
        sign, colour = ("✓", "green") if past.status == 0 else ("✗", "red")
        line = Text.assemble(
            f"   {past.saved}  {past.seconds:7.1f} s  ", (f"{sign} ", colour), past.what
        )
        line.truncate(width, overflow="ellipsis")
        found.append(line)
    return found


def _cut(found: list[Text], room: int) -> list[Text]:
    """Return FOUND in at most ROOM lines."""
    if len(found) <= room:
        return found
    left_out = Text(f" … {len(found) - room + 1} more lines", style="dim")
    return [*found[: room - 1], left_out] if room > 0 else []


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
    number = _number(row)
    line = Text.assemble(
        (f" {mark} ", colour),
        (row.name.ljust(min(names, width // 3)), "bold"),
        (f"  {number:<7}", "magenta"),
    )
    if row.doing is not None:
        if row.returning:
            line.append(" rolling back:", "yellow")
        return _activity(row.doing, width, now, line)
    line.append(f" {row.state}", colour)
    if row.detail and not row.failed:
        line.append(f"  {plain(row.detail)}", "dim")
    return line


def _heard(row: Row) -> Iterator[Text]:
    """Yield the last line that was heard of the guest of ROW, which is waited for or changed."""
    if row.doing is not None and row.doing.console:
        yield Text(f"     | {row.doing.console}", style="dim")


def _number(row: Row) -> str:
    """Return the generation of ROW, and which one it is on the way to."""
    found = "-" if row.generation is None else f"g{row.generation}"
    if row.target in {None, row.generation}:
        return found
    return f"g{row.target}→{found}" if row.returning and row.doing else f"{found}→g{row.target}"


def _activity(doing: Doing, width: int, now: float, before: str | Text) -> Text:
    """Return what goes on, how far it is where that is known, and for how long it has."""
    if before == " ":
        before = Text.assemble((f" {_spin(now)} ", "cyan"))
    words = f"waiting for {doing.missing}" if doing.missing else DOING[doing.phase]
    text = Text.assemble(before, (f" {words}" if str(before).strip() else ""))
    if doing.detail and doing.phase in {"ready", "stop"}:
        text.append(f" {plain(doing.detail)}", "dim")
    seconds = f" {max(now - doing.since, 0.0):.1f} s"
    if doing.until is not None:
        seconds += f" of {doing.until - doing.since:.0f}"
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
    for line in difference_lines(planned.differences, changes=planned.system_changes):
        yield from _wrapped(line.replace("/gnu/store/", ""), width, "     ", "")


def _parts(change: Change, view: View, width: int, now: float) -> Iterator[Text]:
    """Yield a line with a bar for each part that took time."""
    spent = change.spent
    if change.ended is None and (change is view.change or change == view.change):
        for doing in _going_on(view):
            spent = spent.going_on(PARTS[doing.phase], doing.since, now)
    told = {part: seconds for part, seconds in spent.seconds.items() if seconds >= _WORTH_TELLING}
    longest = max(told.values(), default=1.0)
    widest = max(min(_WIDEST_BAR, width - 26), 1)
    for part in dict.fromkeys(PARTS.values()):
        if part not in told:
            continue
        seconds = told[part]
        bar = "▬" * max(round(widest * seconds / longest), 1)
        yield Text.assemble(f"   {part:<9}", (f"{seconds:8.1f} s  ", ""), (bar, "blue"))


def _going_on(view: View) -> Iterator[Doing]:
    for doing in (view.shared, *(row.doing for row in view.rows)):
        if doing is not None:
            yield doing


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
    told = [plain(error.message) for error in view.problems]
    for notice in view.notices:
        # A warning of what went wrong may come before the error that says the same.
        if any(message in notice for message in told):
            continue
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
    if view.paused and view.waiting:
        return Text.assemble((" paused", "bold yellow"), ("  p goes on  ? keys  ^C ends", "dim"))
    if view.saved_again is not None and not view.waiting:
        return Text.assemble(
            (" saved again", "bold cyan"),
            (f" {view.saved_again}: taken up after this  ? keys  ^C ends", "dim"),
        )
    if not view.waiting:
        seconds = max(now - view.change.begun, 0.0)
        return Text.assemble(
            (" working", "bold cyan"),
            (f" for {seconds:.0f} s  saved {view.change.saved}  ? keys  ^C ends", "dim"),
        )
    last = f"  last save {view.change.saved}  ? keys  ^C ends"
    words = f" waiting for {view.config} to be saved"
    if len(words) + len(last) > width:
        words = f" waiting for {view.config.rpartition('/')[2]}"
    return Text.assemble((words, "bold red" if view.problems else "bold green"), (last, "dim"))
