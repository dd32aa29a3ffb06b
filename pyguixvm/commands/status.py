# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether machines are as declared, or as they were applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyguixvm.model.declaration import (
    VirtualMachine,
)

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.plan.status import MachineStatus
from pyguixvm.commands.planning import Unreached, observed
from pyguixvm.commands.session import Session


def statuses(
    session: Session,
    machines: Sequence[VirtualMachine],
    config: str | None,
    deployment: str | None = None,
) -> tuple[MachineStatus, ...]:
    """Return how MACHINES compare with what is there.

    CONFIG is the file that declares them, if these are all of its machines, and
    DEPLOYMENT its name, if it has one: then those that it does not declare any more
    are reported, too.
    """
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.plan.status import statuses as compare
    from pyguixvm.plan.status import unreachable

    depth = Depth.HOST | Depth.HOLDERS | Depth.ADDRESSES | Depth.RECORDS
    with observed(session, machines, depth=depth, config=config, deployment=deployment) as planned:
        return tuple(
            status
            for each in planned
            for status in (
                unreachable([machine.machine for machine in each.plan.machines], each.error)
                if isinstance(each, Unreached)
                else compare(
                    [machine.machine for machine in each.plan.machines],
                    each.observation,
                    each.plan.undeclared,
                )
            )
        )


def applied_statuses(session: Session, names: Sequence[str]) -> tuple[MachineStatus, ...]:
    """Return how our machines, those NAMES if any, compare with what was applied.

    Raises RequestRefusedError if there is no machine of one of NAMES.
    """
    from pyguixvm.commands.machines import no_machine
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.observe import Depth, observe
    from pyguixvm.plan.status import applied_statuses as compare

    with connect(session.uri) as connection:
        observation = observe(connection, Depth.HOLDERS | Depth.ADDRESSES)
        found = compare(observation, names)
        missing = set(names) - {status.name for status in found}
        if missing:
            raise no_machine(min(missing), observation)
        return found
