# SPDX-License-Identifier: GPL-3.0-or-later
"""Many machines, and many hypervisors: libvirt's test driver has as many as are wanted.

usage: scale.py VERB HYPERVISORS MACHINES

Have VERB (plan, status, list) look at so many HYPERVISORS with so many MACHINES each, twice;
print how long the first time took, the second one, and the processor for the first one (seconds),
and the memory (bytes) at most.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec
from measure import Row

sys.path.append(str(Path(__file__).parents[1] / "libvirt"))

from fleet import machine, node

from pyguixvm.commands import listing, planning, status
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import connect
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.volume_names import generation_volume

_TIMES = 2
_GIB = 1024**3
# Hypervisors, machines of each, and the goals: seconds for each verb.
_SIZES: tuple[tuple[int, int, dict[str, float]], ...] = (
    (1, 200, {"plan": 2, "list": 1, "status": 1}),
    (500, 20, {"plan": 30, "status": 15}),
)


def sizes(_runs: int, _work: object) -> Iterator[Row]:
    """Look at machines, each time by a process of its own."""
    for hypervisors, machines, goals in _SIZES:
        for verb, goal in goals.items():
            command = [sys.executable, __file__, verb, str(hypervisors), str(machines)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            first, again, spent, most = json.loads(done.stdout)
            what = f"{verb}: {hypervisors} x {machines} machines ({most / 1024**2:.0f} MiB)"
            fits = first <= goal and most <= _GIB
            note = f"again {again:.2f} s; the processor's part is {spent:.2f} s"
            yield Row(what, first, 0, "", 0, f"≤ {goal:g} s", fits, note=note)


def _fleet(directory: Path, hypervisors: int, machines: int) -> Iterator[VirtualMachine]:
    """Yield the MACHINES of each of the HYPERVISORS, whose files are in DIRECTORY.

    They are seen from here, as those of a libvirtd are that is on this machine.
    """
    for host in range(hypervisors):
        declared = [machine(f"h{host}m{number}") for number in range(machines)]
        pool = directory / str(host)
        pool.mkdir()
        for each in declared:
            (pool / generation_volume(each.name, 1)).touch()
        file = directory / f"{host}.xml"
        file.write_bytes(node(declared, pool))
        for each in declared:
            yield msgspec.structs.replace(each, hypervisor=f"test://{file}")


def _look(verb: str, session: Session, machines: tuple[VirtualMachine, ...]) -> Callable[[], int]:
    """Return what has VERB look at MACHINES, and returns how many it found as they are declared."""

    def plan() -> int:
        with planning.observed(session, machines, config="/c.scm") as planned:
            assert all(isinstance(each, planning.Planned) for each in planned)
            return sum(not m.refusal for each in planned for m in each.plan.machines)

    def compare() -> int:
        asked = status.Asked(machines=machines, config="/c.scm")
        sighted = status.sighted(session, asked)
        return sum(m.state == "running" for each in sighted for m in each.statuses)

    def listed() -> int:
        return len(listing.listed(session, everything=False))

    return {"plan": plan, "status": compare, "list": listed}[verb]


def _main(verb: str, hypervisors: int, each: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        machines = tuple(_fleet(Path(directory), hypervisors, each))
        uri = machines[0].hypervisor
        # The driver's hosts live in this process, as long as somebody is connected.
        kept: AbstractContextManager[object] = connect(uri) if hypervisors == 1 else nullcontext()
        session = Session(uri, (), dict(os.environ), ignore, lambda _: None)
        with kept:
            look = _look(verb, session, machines)
            took, spent = [], []
            for _ in range(_TIMES):
                begun, before = time.monotonic(), time.process_time()
                assert look() == hypervisors * each
                took.append(time.monotonic() - begun)
                spent.append(time.process_time() - before)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([*took, spent[0], most]))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
