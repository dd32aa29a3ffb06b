# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a guest is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import ours
from measure import Row, compared, run, virsh
from workspace import MAC, MACHINE, Workspace


def downtimes(runs: int, work: Workspace) -> Iterator[Row]:
    """How long a guest is away: for another system, and for a restart with virsh.

    For both it is back when it has renewed its lease.
    """
    try:
        _update(work)
        times = [(_update(work), _restart()) for _ in range(runs)]
    finally:
        ours.remove()
    yield compared("away for another system", times, "virsh shutdown, start", goal=1.1)


def _update(work: Workspace) -> float:
    work.edit()
    ours.deploy(work.machines)
    found = json.loads(run("pyguixvm", "generations", MACHINE, "--json"))["generations"]
    return next(g["downtime"] for g in found if g["current"]) or 0.0


def _restart() -> float:
    before = _leases()
    begun = time.perf_counter()
    virsh("shutdown", MACHINE, "--mode", "agent")
    while "shut off" not in virsh("domstate", MACHINE):
        time.sleep(0.1)
    virsh("start", MACHINE)
    while _leases() == before:
        time.sleep(0.1)
    return time.perf_counter() - begun


def _leases() -> list[str]:
    listed = virsh("net-dhcp-leases", "default")
    return [line for line in listed.splitlines() if MAC in line]
