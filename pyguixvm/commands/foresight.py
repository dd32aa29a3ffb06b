# SPDX-License-Identifier: GPL-3.0-or-later
"""What deploy would refuse on its way, told before it is on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyguixvm.commands.planning import Unreached, measured
from pyguixvm.errors import PyguixvmError
from pyguixvm.plan.actions import CreateDisk, CreateEmptyRoot, CreateRoot, DefineDomain
from pyguixvm.plan.plan import MachinePlan, Plan

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.commands.planning import Sight
    from pyguixvm.commands.session import Session
    from pyguixvm.hypervisor.connection import Connection
    from pyguixvm.model.declaration import VirtualMachine


def examined(session: Session, planned: Sight) -> Plan:
    """Return the plan of PLANNED, measured, in which all that can be known now is refused.

    Nothing is changed, nothing is built.
    """
    if isinstance(planned, Unreached):
        return planned.plan
    plan = measured(session, planned)
    machines = (_examined(each, planned.connection, session) for each in plan.machines)
    return msgspec.structs.replace(plan, machines=tuple(machines))


def _examined(plan: MachinePlan, connection: Connection, session: Session) -> MachinePlan:
    from pyguixvm.hypervisor import pools
    from pyguixvm.plan.foreseen import refused

    made = (CreateRoot, CreateEmptyRoot, CreateDisk)
    try:
        for pool in {action.pool for action in plan.actions if isinstance(action, made)}:
            pools.require_usable(connection, pool)
        for action in plan.actions:
            if isinstance(action, CreateRoot):
                _require_usable(action, plan.machine)
            elif isinstance(action, DefineDomain):
                _require_definable(plan, connection, session)
    except PyguixvmError as error:
        return refused(plan, error)
    return plan


def _require_usable(action: CreateRoot, machine: VirtualMachine) -> None:
    """Raise if the image of ACTION, if it is there, is of no use for the root of MACHINE.

    It may be larger than that is to be, or have parts in other files.
    """
    from pyguixvm.image.grow import require_room
    from pyguixvm.image.overlay import require_whole

    whole = Path(action.image if action.whole is None else action.whole.output)
    if whole.exists():
        require_whole(whole, machine.image.disk_format)
        require_room(whole, machine.image.disk_format, action.size)


def _require_definable(plan: MachinePlan, connection: Connection, session: Session) -> None:
    """Raise if the hypervisor does not take the domain of PLAN, as far as it says before."""
    from pyguixvm.hypervisor.connection import capabilities
    from pyguixvm.xml.capabilities import choose_domain_type
    from pyguixvm.xml.plain_fields import require_representable

    offered = capabilities(connection).domain_types
    choose_domain_type(plan.machine, offered, session.environment.get("PYGUIXVM_VIRT_TYPE"))
    require_representable(plan.machine)
