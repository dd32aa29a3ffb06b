# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploying to a host with a Guix of its own, behind ssh over a line of 20 Mbit/s (see transfers).

Its store begins with nothing in it, and what it has no line in between to is what it fetches.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ours
from measure import Cost, Row, compared
from workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "libvirt"))
sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from far_guix import FarGuix, far_guix
from relay import relayed

_PORT = 2291
_MIB = 1024**2
_UPLOAD = "--via upload: its bits, compressed"


def over_a_line(runs: int, work: Workspace) -> Iterator[Row]:
    """First deployments, of which the host has nothing or nearly all, beside sending their bits."""
    line = work.directory / "line"
    with (
        tempfile.TemporaryDirectory(prefix="pyguixvm-bench-far-") as directory,
        relayed(line, f"127.0.0.1:{_PORT}"),
        far_guix(Path(directory) / "host", _PORT, line, FETCHES="yes") as far,
    ):
        far.trust_us()
        # The base of that layout, which all have, is there from now on.
        _deploy(far, work, "upload")
        yield _row("of which its store has nothing: it fetches all", far, work, 1)
        yield _row("of which its store has all but a file", far, work, runs)


def _row(what: str, far: FarGuix, work: Workspace, runs: int) -> Row:
    times, sent = [], [0, 0]
    for _ in range(runs):
        (mine, sent[0]), (upload, sent[1]) = (
            _deploy(far, work, via) for via in ("store", "upload")
        )
        times.append((mine.work, upload.work))
    note = f"MB sent: {sent[0] / _MIB:.1f}, {sent[1] / _MIB:.1f}; {mine.in_words}"
    return compared(f"over a line, a first deployment {what}", times, _UPLOAD, goal=1, note=note)


def _deploy(far: FarGuix, work: Workspace, via: str) -> tuple[Cost, int]:
    """Deploy another edition for the first time; return what that took, and the bytes sent."""
    work.edit(booted=False)
    before = far.meter.went()
    try:
        cost = ours.deploy(work.machines, "-c", far.uri, "--via", via)
    finally:
        ours.remove()
    return cost, far.meter.went() - before
