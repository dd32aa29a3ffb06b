# SPDX-License-Identifier: GPL-3.0-or-later
"""From an edit to a started domain behind a line of 20 Mbit/s with round trips of 50 ms."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ours
from measure import Row
from workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "libvirt"))

from another import another_libvirtd
from relay import relayed

_TRIPS = 40
_TRIP_SECONDS = 0.05
_MIB = 1024**2


def edits(runs: int, work: Workspace) -> Iterator[Row]:
    """A file changed: to a libvirtd behind the line, and to the one here."""
    times, trips, sent = [], 0, 0
    with (
        tempfile.TemporaryDirectory(prefix="pyguixvm-bench-another-") as directory,
        another_libvirtd(Path(directory) / "another") as another,
        relayed(Path(directory) / "line", f"{another.directory}/run/libvirt-sock") as line,
    ):
        try:
            for where in ("qemu:///system", line.uri):
                _deploy(work, where)
            for _ in range(runs):
                here = _deploy(work, "qemu:///system", "--strategy", "increment")
                before = line.traffic()
                there = _deploy(work, line.uri, "--strategy", "increment")
                after = line.traffic()
                trips, sent = after.trips - before.trips, after.there - before.there
                times.append((there, here))
        finally:
            ours.remove()
    there, here = (statistics.median(column) for column in zip(*times, strict=True))
    most = statistics.median(1.5 * mine + _TRIPS * _TRIP_SECONDS for _, mine in times)
    yield Row(
        "a file changed: increment, over a line", there, here, "the same to the libvirtd here",
        there / here, f"≤ {most:.1f} s", there <= most,
        note=f"{trips} round trips, {sent / _MIB:.1f} MB; the goal is 1.5 times that here and "
             f"{_TRIPS} round trips",
    )  # fmt: skip


def _deploy(work: Workspace, uri: str, *options: str) -> float:
    """Deploy another edition; return the seconds until it was started, stop left out."""
    work.edit(booted=False)
    return ours.started(work.machines, "-c", uri, *options)
