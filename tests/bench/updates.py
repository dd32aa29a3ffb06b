# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a guest is away, and how long it takes to stop."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator

import ours
from measure import Row, compared, run, seconds, virsh
from workspace import MAC, MACHINE, Workspace

# Seconds that a guest may take to end whose old root is not wanted any more.
_FAST = 1.5
# A guest that uses less than a tenth of a processor for so long (seconds) has booted.
_REST = 3.0


def downtimes(runs: int, work: Workspace) -> Iterator[Row]:
    """How long a guest is away: for another system, and for a restart with virsh.

    For both it is back when it has renewed its lease.  And what of that it took to stop.
    """
    away, stopping, fast = [], [], []
    try:
        _update(work)
        for _ in range(runs):
            update, restart = _at_rest(lambda: _update(work)), _at_rest(_restart)
            away.append((update[0], restart[0]))
            stopping.append((update[1], restart[1]))
            fast.append(_at_rest(lambda: _update(work, "--stop", "fast"))[1])
        destroyed = seconds(lambda: virsh("destroy", MACHINE))
    finally:
        ours.remove()
    yield compared("away for another system", away, "virsh shutdown, start", goal=1.1)
    yield compared("stop", stopping, "virsh shutdown", goal=1.1)
    taken = statistics.median(fast)
    yield Row(
        "stop, --stop fast", taken, destroyed, "virsh destroy", taken / destroyed,
        f"≤ {_FAST:g} s", taken <= _FAST,
    )  # fmt: skip


def _at_rest(what: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Return what WHAT does when the guest has booted: one that does it still is slow to stop."""
    before = _processor_time()
    while True:
        time.sleep(_REST)
        now = _processor_time()
        if now - before < _REST / 10:
            return what()
        before = now


def _processor_time() -> float:
    """Return how many seconds of a processor the guest has used."""
    said = virsh("domstats", MACHINE, "--cpu-total").split()
    return next(int(each.partition("=")[2]) for each in said if each.startswith("cpu.time=")) / 1e9


def _update(work: Workspace, *options: str) -> tuple[float, float]:
    """Deploy another system; return for how long the guest was away, and took to stop."""
    work.edit()
    cost = ours.deploy(work.machines, *options)
    found = json.loads(run("pyguixvm", "generations", MACHINE, "--json"))["generations"]
    away = next(g["downtime"] for g in found if g["current"]) or 0.0
    return away, cost.phases.get("stop", 0.0)


def _restart() -> tuple[float, float]:
    """As `_update`, by hand and for the same system."""
    before = _leases()
    begun = time.perf_counter()
    virsh("shutdown", MACHINE, "--mode", "agent")
    while "shut off" not in virsh("domstate", MACHINE):
        time.sleep(0.1)
    stopped = time.perf_counter()
    virsh("start", MACHINE)
    while _leases() == before:
        time.sleep(0.1)
    return time.perf_counter() - begun, stopped - begun


def _leases() -> list[str]:
    listed = virsh("net-dhcp-leases", "default")
    return [line for line in listed.splitlines() if MAC in line]
