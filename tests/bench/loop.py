# SPDX-License-Identifier: GPL-3.0-or-later
"""From an edit to a running guest: pyguixvm beside the pipeline by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import by_hand
import ours
from limits import Limit, beside, built, define_and_start, virsh_alone, written
from measure import Cost, Row, compared
from workspace import Workspace

_PIPELINE = "image, copy, grow, define, start"
_MIB = 1024**2
# What a system may have that another one has not, beside its configuration.
_OTHERS_MEGABYTES = 20


def deployments(runs: int, work: Workspace) -> Iterator[Row]:
    """Each change in turn: the work, and with stop and boot all that a person waits for."""
    with _removed():
        yield from _deployments(runs, work)


@contextmanager
def _removed() -> Iterator[None]:
    """Have no machine of the bench there, neither before the body nor after it."""
    _remove()
    try:
        yield
    finally:
        _remove()


def _remove() -> None:
    ours.remove()
    by_hand.remove()


def _deployments(runs: int, work: Workspace) -> Iterator[Row]:
    work.edit()
    mine = ours.deploy(work.machines)
    work.edit()
    hand = by_hand.deploy(work)
    limit = built(work) + written(mine.sent) + define_and_start(hand)
    yield from _rows("first deployment", [(mine, hand)], limit=limit)
    work.declare()
    ours.deploy(work.machines)

    times = [(ours.deploy(work.machines), by_hand.deploy(work, boot=False)) for _ in range(runs)]
    yield from _rows("no change", times, goal=0.2, limit=virsh_alone("dumpxml"))

    times = []
    for number in range(runs):
        work.declare(memory=f"{1100 + number}M")
        mine = ours.deploy(work.machines)
        hand = by_hand.deploy(work, boot=False, memory=(1100 + number) * _MIB)
        times.append((mine, hand))
    by_virsh = virsh_alone("setmem", "900M", "--live", "--config")
    yield from _rows("memory changed", times, goal=0.2, limit=by_virsh)
    yield compared(
        "memory changed, seen by the guest apart",
        [(mine.without("update"), hand.work) for mine, hand in times], _PIPELINE, goal=0.2,
        note="by hand nobody looks whether the guest's balloon follows",
    )  # fmt: skip
    yield compared(
        "memory changed", [(mine.work, by_virsh.seconds) for mine, _ in times],
        "virsh setmem alone", note="for who knows that nothing else has changed",
    )  # fmt: skip

    yield from _changes_of_the_system(runs, work)


def _changes_of_the_system(runs: int, work: Workspace) -> Iterator[Row]:
    full: list[Cost] = []
    for strategy, goal in (("full", 0.6), ("increment", 0.15), ("shared-store", 0.3)):
        work.edit()
        if not ours.supported(strategy, work.machines):
            yield Row(f"a file changed: {strategy}", 0, 0, "", 0, note="not in this version")
            continue
        if strategy == "shared-store":
            # The way there is a change of hardware, too.
            ours.deploy(work.machines, "--strategy", strategy)
        times = []
        for _ in range(runs):
            work.edit()
            mine = ours.deploy(work.machines, "--strategy", strategy)
            work.edit()
            times.append((mine, by_hand.deploy(work)))
        what = f"a file changed: {strategy}"
        limit = built(work) + define_and_start(times[-1][1])
        yield from _rows(what, times, goal=goal, limit=limit)
        if strategy == "full":
            full = [mine for mine, _ in times]
            yield compared(
                f"{what}, without the build",
                [(mine.without("build"), hand.without("build")) for mine, hand in times],
                "copy, grow, define, start", goal=0.5,
            )  # fmt: skip
        if strategy == "increment" and full:
            yield compared(
                what, [(m.work, f.work) for (m, _), f in zip(times, full, strict=False)],
                "our own full image", goal=0.25,
            )  # fmt: skip
        boots = [(mine.boot, hand.boot) for mine, hand in times]
        yield compared(
            f"boot after {strategy}", boots, "boot from disk",
            goal=0.8 if strategy == "shared-store" else None,
        )  # fmt: skip


def first(runs: int, work: Workspace) -> Iterator[Row]:
    """The first deployment of a machine, after one of another system with the same layout."""
    times = []
    # The first one makes the image that the others stand on.
    for number in range(1 + runs):
        with _removed():
            megabytes = _OTHERS_MEGABYTES if number else 0
            work.edit(megabytes=megabytes)
            mine = ours.deploy(work.machines)
            work.edit(megabytes=megabytes)
            pair = (mine, by_hand.deploy(work))
        if number > 0:
            times.append(pair)
    limit = built(work) + written(times[-1][0].sent) + define_and_start(times[-1][1])
    yield from _rows("first deployment, another's image is there", times, goal=0.4, limit=limit)


def several(runs: int, work: Workspace) -> Iterator[Row]:
    """Five machines of one operating system, against five times the pipeline."""
    times = []
    with _removed():
        for _ in range(max(1, runs // 2)):
            work.edit(count=5, booted=False)
            mine = ours.deploy(work.machines)
            ours.remove()
            work.edit()
            hand = by_hand.deploy(work, boot=False)
            # The start, which is the same for both, is left out on one side only.
            times.append((mine.without("start"), 5 * hand.work))
        yield compared(
            "five machines of one system", times, "five times image, copy, grow, define",
            goal=0.3, note=mine.in_words,
        )  # fmt: skip


def _rows(
    what: str, times: list[tuple[Cost, Cost]], goal: float | None = None, *, limit: Limit
) -> Iterator[Row]:
    """Yield a row for the work, with its LIMIT, one with stop and boot, and those of phases."""
    work = compared(
        what, [(mine.work, hand.work) for mine, hand in times], _PIPELINE,
        goal=goal, note=_weights(*times[-1]),
    )  # fmt: skip
    yield beside(work, limit)
    mine, hand = times[-1]
    if hand.boot:
        whole = [(mine.seconds, hand.seconds) for mine, hand in times]
        yield compared("    with stop and boot", whole, "the same with its boot")
    for phase in dict.fromkeys([*mine.phases, *hand.phases]):
        us, them = mine.phases.get(phase, 0.0), hand.phases.get(phase, 0.0)
        yield Row(f"    {phase}", us, them, "", us / them if them else 0.0)


def _weights(mine: Cost, hand: Cost) -> str:
    return (
        f"MB written {mine.written / _MIB:.0f}, {hand.written / _MIB:.0f}; "
        f"in the pool {mine.sent / _MIB:.0f}, {hand.sent / _MIB:.0f}; "
        f"memory: Python {mine.memory / _MIB:.0f}, evaluator {mine.evaluator / _MIB:.0f}, "
        f"guix {hand.memory / _MIB:.0f}"
    )
