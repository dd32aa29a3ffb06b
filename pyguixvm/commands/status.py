# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether machines are as declared, or as they were applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyguixvm.commands.looking import looked_at
from pyguixvm.commands.session import Session
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.provenance import Provenance

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.model.observation import Observation
    from pyguixvm.plan.rates import Rates
    from pyguixvm.plan.status import MachineStatus

# How long (seconds) it is measured what machines use.
_MEASURE_SECONDS = 0.5


@dataclass(frozen=True)
class Asked:
    """What is asked about: MACHINES, all of CONFIG's and DEPLOYMENT's, or what was applied.

    MACHINES is None for what was applied to our machines, those NAMES if any.  Differences at
    the paths of IGNORE count for nothing.  PROVENANCE is what MACHINES were evaluated with.
    """

    machines: tuple[VirtualMachine, ...] | None = None
    config: str | None = None
    deployment: str | None = None
    names: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    provenance: Provenance | None = None

    def uris(self, session: Session) -> tuple[str | None, ...]:
        """Return the URIs of the hypervisors that are asked."""
        if self.machines is None:
            return (session.uri,)
        return tuple(dict.fromkeys(each.hypervisor or session.uri for each in self.machines))


@dataclass(frozen=True)
class Sighted:
    """What was seen at the hypervisor at URI: STATUSES, by an OBSERVATION.

    Without one, it did not answer for ERROR.
    """

    uri: str
    statuses: tuple[MachineStatus, ...]
    observation: Observation | None = None
    error: str | None = None


def status(session: Session, asked: Asked) -> tuple[MachineStatus, ...]:
    """Return the status of what is ASKED about; raises as `sighted`."""
    return tuple(status for each in sighted(session, asked) for status in each.statuses)


def sighted(session: Session, asked: Asked) -> tuple[Sighted, ...]:
    """Return what is seen of what is ASKED about, by hypervisor.

    Raises RequestRefusedError if there is no machine of a name, and HypervisorError if the
    only hypervisor cannot be looked at.
    """
    if asked.machines is None:
        return (_applied(session, asked.names, asked.ignore),)
    return _declared(session, asked, asked.machines)


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
    return status(session, Asked(tuple(machines), config, deployment))


def applied_statuses(
    session: Session, names: Sequence[str], ignore: Collection[str] = ()
) -> tuple[MachineStatus, ...]:
    """Return how our machines, those NAMES if any, compare with what was applied.

    Differences at the paths of IGNORE count for nothing.  Raises RequestRefusedError if there
    is no machine of one of NAMES.
    """
    return status(session, Asked(names=tuple(names), ignore=tuple(ignore)))


def _declared(
    session: Session, asked: Asked, machines: Sequence[VirtualMachine]
) -> tuple[Sighted, ...]:
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.plan.ownership import undeclared
    from pyguixvm.plan.status import statuses as compare
    from pyguixvm.plan.status import unreachable

    with looked_at(
        session,
        machines,
        depth=_depth() | Depth.HOST | Depth.RECORDS,
        config=asked.config,
        deployment=asked.deployment,
    ) as looked:
        found = []
        for each, owner in looked.seen:
            there = each.observation
            left = undeclared(each.machines, there, owner)
            compared = compare(each.machines, there, left, asked.ignore, asked.provenance)
            found.append(Sighted(there.uri, compared, there))
        for unseen in looked.unseen:
            lost = unreachable(unseen.machines, unseen.error, unseen.uri)
            found.append(Sighted(unseen.uri, lost, error=unseen.error.message))
        return tuple(found)


def _applied(session: Session, names: Sequence[str], ignore: Collection[str]) -> Sighted:
    from pyguixvm.commands.machines import no_machine
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.observe import observe
    from pyguixvm.plan.status import applied_statuses as compare

    with connect(session.uri) as connection:
        observation = observe(connection, _depth())
        found = compare(observation, names, ignore)
        missing = set(names) - {status.name for status in found}
        if missing:
            raise no_machine(min(missing), observation)
        return Sighted(connection.uri, found, observation)


def measured(
    session: Session,
    asked: Asked,
    found: Sequence[MachineStatus],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Rates]:
    """Return what the machines FOUND use in a second, by UUID, measured from now on.

    A hypervisor that does not answer is passed over: it was told already.
    """
    from contextlib import ExitStack, suppress

    from pyguixvm.errors import HypervisorError
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.statistics import statistics
    from pyguixvm.plan.rates import rates

    measures = {}
    for uri in asked.uris(session):
        with suppress(HypervisorError), ExitStack() as opened:
            connection = opened.enter_context(connect(uri))
            before, begun = statistics(connection), time.monotonic()
            sleep(_MEASURE_SECONDS)
            after, seconds = statistics(connection), time.monotonic() - begun
            for each in found:
                if each.uuid in after and each.uuid is not None:
                    measures[each.uuid] = rates(before.get(each.uuid), after[each.uuid], seconds)
    return measures


def _depth() -> Depth:
    from pyguixvm.hypervisor.observe import Depth

    return Depth.HOLDERS | Depth.ADDRESSES | Depth.STATISTICS | Depth.GUESTS
