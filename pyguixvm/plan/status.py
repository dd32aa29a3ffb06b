# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is declared is what there is; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.errors import PyguixvmError
from pyguixvm.model.applied import Generation, LastDeploy, Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.guest import Inside
from pyguixvm.model.image import SharedStore
from pyguixvm.model.observation import Observation, ObservedDomain, State
from pyguixvm.model.provenance import Provenance
from pyguixvm.model.statistics import PoolSpace, Statistics
from pyguixvm.plan.drift import differences, foreign_devices
from pyguixvm.plan.guest import GuestSystem, guest_differences, guest_system, guest_troubles
from pyguixvm.plan.origins import Origins, origins
from pyguixvm.plan.volumes_seen import volume_differences

Verdict: TypeAlias = Literal[
    "deployed", "drifted", "pending restart", "not seen ready", "stopped", "missing",
    "not declared", "not ours", "unreachable",
]  # fmt: skip


Ended: TypeAlias = Literal["ready", "not seen ready", "rolled back", "failed", "not seen to end"]


class PastDeploy(msgspec.Struct, frozen=True, rename="kebab"):
    """The last deploy of a machine, of GENERATION: how it ENDED, who did it BY which account.

    DATE is when it began (UTC in ISO 8601), or when that generation was made if nobody noted
    more, and SECONDS how long it took, if that is known.  One that goes on, or that was killed,
    was not seen ready, or not seen to end where nothing is waited for.
    """

    generation: int
    ended: Ended
    date: str
    by: str | None = None
    seconds: float | None = None


class MachineStatus(msgspec.Struct, frozen=True, rename="kebab"):
    """How one machine compares with its declaration; DETAIL says what differences do not.

    STATE is what its domain is in, None if there is none, and REASON why; READY: its guest runs,
    and was seen ready since its last deploy or start by us.  ADDRESSES are those
    that its guest is known to have.  IGNORED are differences that count for nothing.  GUEST is
    what the guest runs, INSIDE what it says itself, BOOTED the system that it booted, STATISTICS
    what it uses, SPACE how full its pool is, DEPLOY its last deploy, and ORIGINS tells
    commits; what was not asked, or not answered, is None.  HYPERVISOR is the URI of where it was
    looked for.
    """

    name: str
    status: Verdict
    generation: int | None = None
    state: State | None = None
    ready: bool = False
    differences: tuple[Difference, ...] = ()
    foreign: tuple[str, ...] = ()
    detail: str | None = None
    addresses: tuple[str, ...] = ()
    ignored: tuple[Difference, ...] = ()
    reason: str | None = None
    uuid: str | None = None
    label: str | None = None
    guest: GuestSystem = GuestSystem("unknown")
    inside: Inside | None = None
    booted: str | None = None
    statistics: Statistics | None = None
    space: PoolSpace | None = None
    deploy: PastDeploy | None = None
    origins: Origins = Origins()
    hypervisor: str | None = None


def statuses(
    machines: Iterable[VirtualMachine],
    observation: Observation,
    undeclared: Iterable[str] = (),
    ignore: Collection[str] = (),
    provenance: Provenance | None = None,
) -> tuple[MachineStatus, ...]:
    """Return the status of each of MACHINES, and of those that are UNDECLARED.

    Differences at the paths of IGNORE, and below them, count for nothing.  PROVENANCE is what
    MACHINES were evaluated with.
    """
    return (
        *(_status(machine, observation, ignore, provenance) for machine in machines),
        *(
            MachineStatus(name=name, status="not declared", hypervisor=observation.uri)
            for name in undeclared
        ),
    )


def unreachable(
    machines: Iterable[VirtualMachine], error: PyguixvmError, uri: str | None = None
) -> tuple[MachineStatus, ...]:
    """Return the status of each of MACHINES, whose hypervisor at URI did not answer for ERROR."""
    return tuple(
        MachineStatus(name=machine.name, status="unreachable", detail=error.message, hypervisor=uri)
        for machine in machines
    )


def applied_statuses(
    observation: Observation, names: Iterable[str] = (), ignore: Collection[str] = ()
) -> tuple[MachineStatus, ...]:
    """Return the status of our domains, of those NAMES if any, against what was applied.

    IGNORE is as for `statuses`.
    """
    wanted = tuple(names)
    return tuple(
        _compared(domain.metadata.generation.declaration, domain, observation, ignore)
        if domain.metadata is not None
        else MachineStatus(
            name=name,
            status="not ours",
            state=domain.state,
            detail=domain.unreadable,
            uuid=domain.uuid,
            hypervisor=observation.uri,
        )
        for name, domain in sorted(observation.domains.items())
        if (domain.metadata is not None or domain.unreadable) and (not wanted or name in wanted)
    )


def is_ignored(path: str, ignore: Collection[str]) -> bool:
    """Whether PATH of a difference, or what it is below, is among those of IGNORE."""
    return any(path == each or path.startswith(f"{each}.") for each in ignore)


def last_deploy(metadata: Metadata) -> PastDeploy:
    """Return the last deploy that METADATA knows of, one that was taken back included."""
    newest = max(
        metadata.generations,
        # What was taken back began when what came back was defined again.
        key=lambda each: (_deploy(each).date, each.failed, each.number == metadata.current),
    )
    said = _deploy(newest)
    return PastDeploy(
        generation=newest.number,
        ended=_ended(newest, metadata),
        date=said.date,
        by=said.by or None,
        seconds=said.seconds,
    )


def _ended(newest: Generation, metadata: Metadata) -> Ended:
    """Return how the last deploy in METADATA ended, which was that of NEWEST."""
    deploy, back = newest.deploy, metadata.generation.deploy
    if newest.failed and newest.number != metadata.current:
        # What was to be returned to may not have come back either.
        lost = deploy and back and back.failed and back.date == deploy.date
        return "failed" if lost else "rolled back"
    if newest.failed or (deploy is not None and deploy.failed):
        return "failed"
    if not _is_proven(metadata):
        return "not seen ready"
    return "not seen to end" if deploy is not None and deploy.seconds is None else "ready"


def _is_proven(metadata: Metadata) -> bool:
    """Whether the guest of METADATA's current generation was seen ready."""
    return not metadata.generation.unseen and metadata.fallback is None


def _deploy(generation: Generation) -> LastDeploy:
    return generation.deploy or LastDeploy(by="", date=generation.date)


def _status(
    machine: VirtualMachine,
    observation: Observation,
    ignore: Collection[str],
    provenance: Provenance | None,
) -> MachineStatus:
    domain = observation.domains.get(machine.name)
    holder = observation.holders.get(machine.name)
    if domain is None:
        detail = None if holder is None else f"being changed by {holder}"
        return MachineStatus(
            name=machine.name, status="missing", detail=detail, hypervisor=observation.uri
        )
    return _compared(machine, domain, observation, ignore, provenance)


def _compared(
    machine: VirtualMachine,
    domain: ObservedDomain,
    observation: Observation,
    ignore: Collection[str],
    provenance: Provenance | None = None,
) -> MachineStatus:
    holder = observation.holders.get(machine.name)
    if domain.metadata is None:
        return MachineStatus(
            name=machine.name,
            status="not ours",
            state=domain.state,
            detail=domain.unreadable or "a domain of that name exists that pyguixvm did not make",
            uuid=domain.uuid,
            hypervisor=observation.uri,
        )
    unwanted = {*ignore, *machine.ignore_drift}
    found = (
        *differences(machine, domain),
        *volume_differences(machine, domain),
        *guest_differences(domain),
    )
    changed = tuple(each for each in found if not is_ignored(each.path, unwanted))
    current, guest = domain.metadata.generation, guest_system(domain)
    return MachineStatus(
        name=domain.name,
        status=_verdict(changed, domain, domain.metadata),
        generation=domain.metadata.current,
        state=domain.state,
        ready=domain.state == "running" and _is_proven(domain.metadata),
        differences=changed,
        foreign=foreign_devices(machine, domain),
        detail=", ".join(_details(domain, current, holder)) or None,
        addresses=domain.addresses,
        ignored=tuple(each for each in found if each not in changed),
        reason=domain.reason,
        uuid=domain.uuid,
        label=current.label,
        guest=guest,
        inside=domain.inside,
        booted=(domain.inside.booted if domain.inside else None) or domain.booted,
        statistics=domain.statistics,
        space=next((each for each in observation.spaces if each.name == current.pool), None),
        deploy=last_deploy(domain.metadata),
        origins=origins(domain.metadata, guest, provenance),
        hypervisor=observation.uri,
    )


def _details(domain: ObservedDomain, applied: Generation, holder: str | None) -> Iterator[str]:
    if holder is not None:
        yield f"being changed by {holder}"
    if domain.state not in ("running", "shut off"):
        yield f"{domain.state} {domain.reason}" if domain.reason else domain.state
    yield from guest_troubles(domain)
    arrival = domain.metadata.arrival if domain.metadata else None
    if arrival is not None:
        done = "on its way here from" if arrival.fenced else "came here, and has volumes left on"
        yield f"{done} {arrival.uri}: 'pyguixvm migrate' goes on"
    if domain.without_balloon:
        yield "its guest holds on to its memory (has it a balloon?)"
    if domain.saved:
        yield "its memory is kept: 'pyguixvm start' lets it go on"
    if isinstance(applied.declaration.image, SharedStore):
        yield "runs from the shared store of its host"


def _verdict(
    changed: tuple[Difference, ...], domain: ObservedDomain, metadata: Metadata
) -> Verdict:
    if any(not difference.pending for difference in changed):
        return "drifted"
    if changed:
        return "pending restart"
    if domain.state != "running":
        return "stopped"
    return "deployed" if _is_proven(metadata) else "not seen ready"
