# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an exporter takes to answer for many machines, and what that takes of the machine."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Row, seconds
from workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "libvirt"))
from exporting import Exporter, exporter
from fleet import fleet

_MACHINES = 200
_SCRAPES = 1000
_MIB = 1024**2


def scrapes(_runs: int, _work: Workspace) -> Iterator[Row]:
    """Ask an exporter of 200 machines of the test driver 1,000 times."""
    with tempfile.TemporaryDirectory() as name, fleet(Path(name), _MACHINES) as uri:
        os.environ["PYGUIXVM_VIRT_TYPE"] = "qemu"
        with exporter(Path(name), uri=uri) as asked:
            asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
            for _ in range(50):
                asked.get()
            before = _taken(asked)
            took = sorted(seconds(asked.get) for _ in range(_SCRAPES))
            after = _taken(asked)
    p99 = took[int(0.99 * _SCRAPES)]
    note = (
        f"median {statistics.median(took):.3f} s, longest {took[-1]:.3f} s; memory "
        f"{before[0] / _MIB:.0f} MiB, then {after[0] / _MIB:.0f} MiB; "
        f"{before[1]} file descriptors, then {after[1]}"
    )
    yield Row(f"p99 of {_SCRAPES} scrapes, {_MACHINES} machines", p99, 0, "", 0, "≤ 1 s",
              p99 <= 1, note)  # fmt: skip


def _taken(asked: Exporter) -> tuple[int, int]:
    """Return how much memory (bytes) and how many file descriptors the exporter has."""
    process = Path("/proc") / str(asked.process.pid)
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list((process / "fd").iterdir()))
