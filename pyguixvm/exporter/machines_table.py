# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines as a table: what they are, what differs, and what they use; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pyguixvm.exporter.markup import Child, Markup, tag
from pyguixvm.exporter.sparkline import sparkline
from pyguixvm.exporter.tables import cell_of, row_header, table
from pyguixvm.model.durations import format_duration
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.in_words import PENDING, InWords, in_words
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import MachineStatus

_NAMES = (
    "Machine", "Status", "Generation", "Guest", "Address", "Up for", "CPU", "Memory", "Disks",
    "Network",
)  # fmt: skip
_NOTHING = "-"
# As long as Git shows commits.
_COMMIT = 7
# A sign beside the word: colour alone tells not everybody.
_SIGNS = {"deployed": "✓", "drifted": "≠", "pending restart": "↻", "not seen ready": "…",
          "stopped": "■"}  # fmt: skip


def machines_table(
    statuses: Sequence[MachineStatus], history: Callable[[str | None], tuple[Rates, ...]]
) -> Markup:
    """Return STATUSES as a table, those first that need somebody; HISTORY is asked by UUID."""
    if not statuses:
        return tag("p", "There are none.")
    ordered = sorted(statuses, key=lambda each: (each.status == "deployed", each.name))
    return table(_NAMES, [_row(each, history(each.uuid)) for each in ordered])


def _row(status: MachineStatus, used: Sequence[Rates]) -> Markup:
    troubled = () if status.status == "deployed" else ("Status",)
    last = used[-1] if used else Rates()
    io, traffic = _sum(last.read, last.written), _sum(last.received, last.sent)
    cells: tuple[tuple[Child, ...], ...] = (
        (f"{_SIGNS.get(status.status, '✗')} {status.status}", *_more(status)),
        (f"{status.generation or _NOTHING}", *_generations(status)),
        (_guest(status),),
        (", ".join(status.addresses) or _NOTHING,),
        (_uptime(status),),
        _drawn([each.cpu for each in used], "CPU", _percent(last.cpu)),
        (_memory(status),),
        _drawn([_sum(each.read, each.written) for each in used], "disks", _rate(io),
               _disks(status)),
        _drawn([_sum(each.received, each.sent) for each in used], "network", _rate(traffic)),
    )  # fmt: skip
    return tag(
        "tr",
        row_header(status.name, _NAMES[0]),
        *(
            cell_of(name, *cell, class_=_kind(cell, troubled=name in troubled))
            for name, cell in zip(_NAMES[1:], cells, strict=True)
        ),
        id=f"machine-{status.name}",
        role="row",
    )  # fmt: skip


def _kind(cell: Sequence[Child], *, troubled: bool) -> str | None:
    """Return how CELL is shown; on a phone, what is not known would only take room."""
    return "bad" if troubled else "none" if cell == (_NOTHING,) else None


def _drawn(
    values: Sequence[float | None], name: str, now: str, text: str | None = None
) -> tuple[Child, ...]:
    """Return VALUES of the last hour as a line, if there is one, and TEXT, NOW if none is given."""
    line = sparkline(values, f"{name}, last hour: now {now}")
    words = now if text is None else text
    return (words,) if line is None else (line, tag("small", words))


def _generations(status: MachineStatus) -> Iterator[Child]:
    """Yield what there is to say of the generation of STATUS beside its number."""
    if status.label:
        yield tag("small", status.label)
    deployed, booted = status.origins.deployed, status.origins.booted
    if deployed is not None and deployed.commit is not None:
        yield tag("small", "commit ", tag("code", deployed.commit[:_COMMIT]))
    if booted is not None and booted.generation != status.generation:
        yield tag("small", f"booted: {booted.generation}")


def _more(status: MachineStatus) -> Iterator[Child]:
    """Yield what there is to say of STATUS beside its word: details, and what differs."""
    if status.detail:
        yield tag("p", status.detail)
    if status.differences:
        differences = tuple(in_words(status.differences))
        count = len(differences)
        yield tag(
            "details",
            tag("summary", f"{count} difference{'' if count == 1 else 's'}"),
            tag("dl", *(each for found in differences for each in _difference(found))),
            id=f"differences-{status.name}",
            open=True,
        )
    for device in status.foreign:
        yield tag("p", f"{device}: not ours")


def _difference(found: InWords) -> Iterator[Markup]:
    pending = "" if found.effect != PENDING else f", {PENDING}"
    yield tag("dt", tag("code", found.what), pending)
    yield tag("dd", "is ", tag("del", found.old), ", declared ", tag("ins", found.new))


def _guest(status: MachineStatus) -> str:
    number = status.guest.generation
    return f"{status.guest.verdict}{f' ({number})' if number else ''}"


def _uptime(status: MachineStatus) -> str:
    seconds = status.inside.uptime if status.inside else None
    return _NOTHING if seconds is None else format_duration(seconds)


def _memory(status: MachineStatus) -> str:
    used = status.statistics
    if used is None or used.memory is None:
        return _NOTHING
    if used.unused is None:
        return format_size(used.memory)
    return f"{format_size(max(0, used.memory - used.unused))} of {format_size(used.memory)}"


def _disks(status: MachineStatus) -> str:
    disks = status.statistics.disks if status.statistics else ()
    allocated = [each.allocation for each in disks if each.allocation is not None]
    return format_size(sum(allocated)) if allocated else _NOTHING


def _percent(cpu: float | None) -> str:
    return _NOTHING if cpu is None else f"{100 * cpu:.0f} %"


def _rate(bytes_a_second: float | None) -> str:
    return _NOTHING if bytes_a_second is None else f"{format_size(round(bytes_a_second))}/s"


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
