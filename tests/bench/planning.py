# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning many machines, against libvirt's test driver."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from measure import Row, seconds
from workspace import Workspace

from pyguixvm.apply.data_disk import planned_disks
from pyguixvm.commands import evaluate, planning
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import Deployment, VirtualMachine
from pyguixvm.model.image import SystemImage
from pyguixvm.plan.plan import Plan
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.storage import BackingFile

_MACHINES = 100
_URI = "test:///default"


def hundred(runs: int, work: Workspace) -> Iterator[Row]:
    """Plan machines that are all new, and then all there and running."""
    work.edit(count=_MACHINES)
    session = Session(
        uri=_URI, options=(), environment=dict(os.environ), emit=ignore,
        forward=lambda _: None,
    )  # fmt: skip
    deployment = evaluate.evaluate(session, work.machines, want="images")
    # The driver lives in this process, as long as somebody is connected.
    with connect(_URI) as connection:
        yield _planned("all new", runs, session, deployment, unchanged=0)
        for machine in deployment.machines:
            _bring_up(connection, machine)
        yield _planned("all there", runs, session, deployment, unchanged=_MACHINES)


def _planned(what: str, runs: int, session: Session, deployment: Deployment, unchanged: int) -> Row:
    def look() -> list[Plan]:
        with planning.observed(session, deployment.machines, config=deployment.config) as found:
            return [planning.measured(session, each) for each in found]

    (found,) = look()
    assert len(found.machines) == _MACHINES
    idle = [m for m in found.machines if not m.actions and m.refusal is None]
    assert len(idle) == unchanged, [m.differences or m.refusal for m in found.machines][:2]
    took = statistics.median(seconds(look) for _ in range(runs))
    return Row(f"plan of {_MACHINES} machines, {what}", took, 0, "", 0, "≤ 1 s", took <= 1)


def _bring_up(connection: Connection, machine: VirtualMachine) -> None:
    """Define and start MACHINE as a deployment would; the test driver has no volumes to send."""
    assert isinstance(machine.image, SystemImage)
    image = machine.image.output or ""
    volume = f"pyguixvm-{machine.name}.g1.qcow2"
    pool = Path("/var/lib/libvirt/images")
    generation = Generation(
        number=1, date=datetime.now(UTC).isoformat(timespec="seconds"),
        label=machine.image.label, kernel=machine.image.kernel, pool=machine.domain.pool,
        volume=volume, image=image, declaration=machine,
    )  # fmt: skip
    metadata = Metadata(current=1, generations=(generation,))
    wanted = DomainDefinition(
        machine=machine,
        root=str(pool / volume),
        backing=(BackingFile(path=image, format="raw", store_item=True),),
        domain_type="test",
        metadata=metadata,
        architecture="x86_64",
        security_models=(),
        disks=planned_disks(machine, pool),
    )
    connection.handle.defineXML(domain_xml(wanted)).create()
