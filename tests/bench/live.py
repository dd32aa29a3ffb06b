# SPDX-License-Identifier: GPL-3.0-or-later
"""A save that arrives in a guest that runs, beside the pipeline by hand and its boot."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import by_hand
import ours
from limits import beside, built, lowered
from measure import Cost, FailedCommandError, Row, compared, run
from workspace import MACHINE, Workspace

_PIPELINE = "image, copy, grow, define, boot"
_EDITS = 10
_MEGABYTES = 50
# Goals (seconds): until the guest is asked, for an edited file to be evaluated, and until
# something is done about it.
_OURS = 1.0
_EVALUATION = 0.15
_FIRST_ACTION = 0.4


def saves(runs: int, work: Workspace) -> Iterator[Row]:
    """An edit, ten in a row, and 50 MB, each saved while 'watch' runs."""
    ours.remove()
    by_hand.remove()
    # What is edited for the one is no save for the other.
    apart = Workspace(work.directory / "by-hand")
    apart.directory.mkdir(exist_ok=True)
    try:
        work.edit()
        ours.deploy(work.machines)
        with _watching(work) as watch:
            yield from _rows(runs, work, apart, watch)
    finally:
        ours.remove()
        by_hand.remove()


def _rows(runs: int, work: Workspace, apart: Workspace, watch: _Watch) -> Iterator[Row]:
    # The first one brings what the program that switches needs, and puts a volume on the root.
    first = watch.save(work)
    times: list[tuple[Cost, Cost]] = []
    for _ in range(max(1, runs // 2)):
        mine = watch.save(work)
        apart.edit()
        times.append((mine, by_hand.deploy(apart)))
    yield compared(
        "a file saved: live", [(m.seconds, h.seconds) for m, h in times], _PIPELINE,
        goal=0.10, note=f"the first {first.seconds:.1f} s; the last: {_phases(times[-1][0])}",
    )  # fmt: skip
    parts = [m.phases["ours"] for m, _ in times]
    mine_alone = statistics.median(parts)
    alone = statistics.median(run_alone(apart) for _ in parts)
    until_asked = Row(
        "    of that until the guest is asked", mine_alone, alone, "guix system build",
        mine_alone / alone, f"≤ {_OURS:g} s", mine_alone <= _OURS,
    )  # fmt: skip
    yield beside(until_asked, built(apart))
    warm = lowered(apart)
    for phase, words, goal in (
        ("evaluate", "evaluated", _EVALUATION),
        ("action", "until something is built", _FIRST_ACTION),
    ):
        took = statistics.median(m.phases[phase] for m, _ in times)
        part = Row(f"    of that {words}", took, 0, "", 0, f"≤ {goal:g} s", took <= goal)
        yield beside(part, warm)
    depth = _depth()
    row = [watch.save(work).seconds for _ in range(_EDITS)]
    yield compared(
        "ten saves in a row: live", list(zip(row[-3:], row[:3], strict=True)), "the first of them",
        goal=1.2, note=f"volumes of the root before {depth}, after {_depth()}",
    )  # fmt: skip
    large = watch.save(work, megabytes=_MEGABYTES)
    apart.edit(megabytes=_MEGABYTES)
    hand = by_hand.deploy(apart)
    yield compared(
        f"{_MEGABYTES} MB added: live", [(large.seconds, hand.seconds)], _PIPELINE, goal=0.2,
        note=_phases(large),
    )  # fmt: skip


def run_alone(apart: Workspace) -> float:
    """Return how long (seconds) Guix takes to build a system that has changed."""
    apart.edit()
    begun = time.perf_counter()
    run("guix", "system", "build", apart.system)
    return time.perf_counter() - begun


def _phases(cost: Cost) -> str:
    return ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in cost.phases.items())


def _depth() -> int:
    """Return how many volumes the root consists of."""
    found = json.loads(run("pyguixvm", "generations", MACHINE, "--json"))["generations"]
    (current,) = (each for each in found if each["current"])
    return 1 + len(current["under"])


# What has taken the time until a phase begins.
_UNTIL = {"build": "action", "activate": "ours"}


class _Watch:
    """What `watch --json` in PROCESS says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.rest()

    def rest(self) -> list[dict[str, object]]:
        """Return what is told until a save is waited for."""
        told = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told.append({**json.loads(line), "seen": time.perf_counter()})
            if told[-1]["type"] == "round-ended":
                return told
        raise FailedCommandError("watch ended")

    def save(self, work: Workspace, *, megabytes: int = 0) -> Cost:
        """Edit WORK; return what it took until its guest ran that."""
        begun = time.perf_counter()
        work.edit(megabytes=megabytes)
        told: list[dict[str, object]] = []
        while not any(each["type"] == "deployed" for each in told):
            told = self.rest()
        phases: dict[str, float] = {}
        for each in told:
            if each["type"] == "phase-started" and each["phase"] in _UNTIL:
                until = _UNTIL[str(each["phase"])]
                phases.setdefault(until, float(str(each["seen"])) - begun)
            if each["type"] == "phase-finished":
                phase = str(each["phase"])
                phases[phase] = phases.get(phase, 0.0) + float(str(each["seconds"]))
        if "activate" not in phases:
            raise FailedCommandError(f"the guest was not changed while it ran: {told}")
        return Cost(seconds=float(str(told[-1]["seen"])) - begun, phases=phases)


@contextmanager
def _watching(work: Workspace) -> Iterator[_Watch]:
    with subprocess.Popen(
        ["pyguixvm", "watch", "--json", work.machines], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _Watch(process)
        finally:
            process.send_signal(signal.SIGINT)
