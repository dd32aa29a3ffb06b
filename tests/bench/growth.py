# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits in a row, an edit that adds much, and how times grow with the closure."""

from __future__ import annotations

from collections.abc import Iterator

import by_hand
import ours
from measure import Cost, Row, compared, run
from workspace import MACHINE, Workspace

_MIB = 1024**2
_EDITS = 10
# Together with the system itself: 300 MB, 1 GB, 2 GB.
_PADDING = (0, 700, 1700)


def edits(runs: int, work: Workspace) -> Iterator[Row]:
    """Ten edits in a row, then a package of 50 MB, as the plan chooses; by hand, once each.

    The guests are powered off in between: boots would take minutes and are left out anyway.
    """
    try:
        work.edit(booted=False)
        ours.deploy(work.machines)
        mine = [_edited(work, 0) for _ in range(_EDITS)]
        work.edit()
        hand = by_hand.deploy(work, boot=False)
        yield compared(
            "ten edits in a row", [(sum(c.work for c in mine), _EDITS * hand.work)],
            "ten times image, copy, grow, define", goal=0.15,
            note=f"first {mine[0].work:.1f} s, last {mine[-1].work:.1f} s; "
            f"MB in the pool {mine[0].sent / _MIB:.0f}, {mine[-1].sent / _MIB:.0f}",
        )  # fmt: skip
        added = _edited(work, 50)
        work.edit(megabytes=50)
        hand = by_hand.deploy(work, boot=False)
        yield compared(
            "a package of 50 MB added", [(added.work, hand.work)], "image, copy, grow, define",
            note=f"MB written {added.written / _MIB:.0f}, {hand.written / _MIB:.0f}; "
            f"in the pool {added.sent / _MIB:.0f}, {hand.sent / _MIB:.0f}",
        )  # fmt: skip
    finally:
        ours.remove()
        by_hand.remove()


def closures(runs: int, work: Workspace) -> Iterator[Row]:
    """An edit of one file where the closure has 300 MB, 1 GB, 2 GB."""
    spent = []
    for padding in _PADDING:
        try:
            work.edit(megabytes=padding, booted=False)
            ours.deploy(work.machines)
            times = []
            for _ in range(max(1, runs // 2)):
                mine = _edited(work, padding)
                work.edit(megabytes=padding)
                times.append((mine.work, by_hand.deploy(work, boot=False).work))
        finally:
            ours.remove()
            by_hand.remove()
        yield compared(
            f"a file changed, {padding} MB of data in the system", times,
            "image, copy, grow, define",
        )  # fmt: skip
        spent.append([mine for mine, _ in times])
    yield compared(
        "a file changed: 2 GB", list(zip(spent[-1], spent[0], strict=True)), "the same: 300 MB",
        goal=1.5,
    )  # fmt: skip


def _edited(work: Workspace, megabytes: int) -> Cost:
    run("pyguixvm", "destroy", MACHINE)
    work.edit(megabytes=megabytes, booted=False)
    return ours.deploy(work.machines)
