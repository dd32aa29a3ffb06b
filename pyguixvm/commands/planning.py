# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at the hypervisors of some machines, and plan what is to be done there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pyguixvm.events import phase
from pyguixvm.model.declaration import (
    VirtualMachine,
)
from pyguixvm.plan.actions import (
    CreateRoot,
    PrepareSystem,
)
from pyguixvm.plan.plan import Plan, Policy

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.hypervisor.connection import Connection
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.model.hypervisor import Hypervisor
    from pyguixvm.model.observation import Observation
from pyguixvm.commands.contents import changes_within
from pyguixvm.commands.session import Session


@dataclass(frozen=True)
class Planned:
    """The PLAN for a hypervisor, after OBSERVATION; AGAIN observes it anew and plans the same."""

    connection: Connection
    plan: Plan
    observation: Observation
    again: Callable[[], Plan]


@contextmanager
def observed(
    session: Session,
    machines: Sequence[VirtualMachine],
    *,
    policy: Policy = Policy(),  # noqa: B008 -- frozen
    depth: Depth | None = None,
    config: str | None = None,
    deployment: str | None = None,
) -> Iterator[tuple[Planned, ...]]:
    """Connect to the hypervisors of MACHINES; yield each with the plan for its machines.

    CONFIG is the file that declares MACHINES, if these are all of them, and DEPLOYMENT
    the name that it gives to them as a whole.  DEPTH is how deep to look, at first; a plan
    needs the host and who is at work.  Raises HypervisorError.
    """
    from pyguixvm.hypervisor.observe import Depth, observe
    from pyguixvm.plan.ownership import owner_at
    from pyguixvm.plan.planner import plan

    with ExitStack() as opened:
        with phase(session.emit, "observe") as result:
            hypervisors = _hypervisors(session, machines, opened)
            depth = depth or Depth.HOST | Depth.HOLDERS
            observations = [
                observe(connection, depth, machines=frozenset(machine.name for machine in theirs))
                for connection, theirs in hypervisors
            ]
            result.detail = ", ".join(connection.uri for connection, _ in hypervisors)
        found = [
            (theirs, seen) for (_, theirs), seen in zip(hypervisors, observations, strict=True)
        ]
        planned = []
        for index, (connection, theirs) in enumerate(hypervisors):
            owner = owner_at(index, found, name=deployment, complete=config is not None)
            make = partial(plan, theirs, policy=policy, config=config, owner=owner)
            seen = observations[index]
            again = partial(_planned_again, make, connection, theirs, seen)
            planned.append(Planned(connection, make(seen), seen, again))
        yield tuple(planned)


def _planned_again(
    make: Callable[[Observation], Plan],
    connection: Connection,
    machines: Sequence[VirtualMachine],
    seen: Observation,
) -> Plan:
    """Return what MAKE makes of MACHINES as they are now; of others, of what was SEEN before."""
    from pyguixvm.hypervisor.observe import Depth, observe

    names = frozenset(machine.name for machine in machines)
    return make(observe(connection, Depth.HOST, machines=names, before=seen))


def _hypervisors(
    session: Session, machines: Sequence[VirtualMachine], opened: ExitStack
) -> list[tuple[Connection, list[VirtualMachine]]]:
    """Return the hypervisors of MACHINES, connected to until OPENED closes, and what each runs.

    Many URIs may lead to one hypervisor.  It is used by way of the first, or of one
    that sees the files of this machine.
    """
    from pyguixvm.hypervisor.connection import connect, identity

    def uri_of(machine: VirtualMachine) -> str | None:
        return machine.hypervisor or session.uri

    connections = {
        uri: opened.enter_context(connect(uri)) for uri in dict.fromkeys(map(uri_of, machines))
    }
    if len(connections) < 2:  # noqa: PLR2004 -- one alone is not asked which it is
        return [(connection, list(machines)) for connection in connections.values()]
    which = {uri: identity(connection) for uri, connection in connections.items()}
    ways: dict[Hypervisor, Connection] = {}
    for uri, connection in connections.items():
        known = ways.setdefault(which[uri], connection)
        if connection.local and not known.local:
            ways[which[uri]] = connection
    return [
        (connection, [machine for machine in machines if which[uri_of(machine)] == hypervisor])
        for hypervisor, connection in ways.items()
    ]


def measured(session: Session, planned: Planned) -> Plan:
    """Return the plan of PLANNED with the bytes that its new roots have to move, and why."""
    import msgspec

    from pyguixvm.apply.root_to_be import bytes_to_move

    machines = []
    for plan in planned.plan.machines:
        moved: int | None = 0
        for action in plan.actions:
            if isinstance(action, CreateRoot):
                moved = bytes_to_move(planned.connection, plan.machine, action, session.store)
            elif isinstance(action, PrepareSystem):
                moved = None
        machines.append(
            msgspec.structs.replace(plan, bytes_to_move=moved, system_changes=changes_within(plan))
        )
    return msgspec.structs.replace(planned.plan, machines=tuple(machines))
