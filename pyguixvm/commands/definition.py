# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML that deploying would define."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyguixvm.commands.planning import Unreached, observed
from pyguixvm.commands.session import Session
from pyguixvm.model.declaration import VirtualMachine


def domain_documents(
    session: Session, machines: Sequence[VirtualMachine]
) -> tuple[tuple[str, str], ...]:
    """Return the name and the domain XML of each of MACHINES, as deploying it now would define it.

    File names in pools that do not exist yet are those that would be made.
    """
    from pyguixvm.apply.data_disk import planned_disks
    from pyguixvm.apply.definition import definition
    from pyguixvm.apply.root_to_be import planned_root
    from pyguixvm.digest.memory import Digests
    from pyguixvm.plan.strategies.full import new_root
    from pyguixvm.xml.domain import domain_xml

    digests = Digests(session.state_directory)
    documents = []
    with observed(session, machines) as planned:
        for each in planned:
            if isinstance(each, Unreached):
                raise each.error
            for machine_plan in each.plan.machines:
                machine = machine_plan.machine
                root = planned_root(each.connection, machine, new_root(machine, 1), digests)
                disks = planned_disks(machine, Path(root.path).parent)
                wanted = definition(machine, root, disks, each.connection, session.environment)
                documents.append((machine.name, domain_xml(wanted)))
    return tuple(documents)
