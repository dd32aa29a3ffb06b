# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a guest is away."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Row, compared, run, virsh

_CONFIG = Path(__file__).parents[1] / "e2e" / "configs" / "change.scm"
_MAC = "52:54:00:ab:cd:01"


def downtimes(runs: int) -> Iterator[Row]:
    """How long a guest is away: for another system, and for a restart with virsh.

    By hand it is back when it has renewed its lease; by us only when there is also a login
    on its console, and its agent answers.  Guix builds before the guest stops.
    """
    editions = itertools.count()

    def deploy() -> None:
        edition = f"edition {next(editions)} {os.getpid()}"
        run("pyguixvm", "deploy", _CONFIG, PYGUIXVM_TEST_EDITION=edition)

    def update() -> float:
        deploy()
        found = json.loads(run("pyguixvm", "generations", "change", "--json"))["generations"]
        return float(next(g["downtime"] for g in found if g["current"]))

    def restart() -> float:
        before = leases()
        begun = time.perf_counter()
        virsh("shutdown", "change", "--mode", "agent")
        while "shut off" not in virsh("domstate", "change"):
            time.sleep(0.1)
        virsh("start", "change")
        while leases() == before:
            time.sleep(0.1)
        return time.perf_counter() - begun

    def leases() -> list[str]:
        listed = virsh("net-dhcp-leases", "default")
        return [line for line in listed.splitlines() if _MAC in line]

    try:
        deploy()
        times = [(update(), restart()) for _ in range(runs)]
    finally:
        run("pyguixvm", "undefine", "--yes", "change")
    yield compared("away for another system", times, "virsh shutdown, start", goal=1.1)
