# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is declared is what there is; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.errors import PyguixvmError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import SharedStore, VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import Observation, ObservedDomain, State
from pyguixvm.plan.drift import differences, foreign_devices

Verdict: TypeAlias = Literal[
    "deployed", "drifted", "pending restart", "not seen ready", "stopped", "missing",
    "not declared", "not ours", "unreachable",
]  # fmt: skip


class MachineStatus(msgspec.Struct, frozen=True, rename="kebab"):
    """How one machine compares with its declaration; DETAIL says what differences do not.

    STATE is what its domain is in, None if there is none; ADDRESSES are those that its guest
    is known to have.
    """

    name: str
    status: Verdict
    generation: int | None = None
    state: State | None = None
    differences: tuple[Difference, ...] = ()
    foreign: tuple[str, ...] = ()
    detail: str | None = None
    addresses: tuple[str, ...] = ()


def statuses(
    machines: Iterable[VirtualMachine], observation: Observation, undeclared: Iterable[str] = ()
) -> tuple[MachineStatus, ...]:
    """Return the status of each of MACHINES, and of those that are UNDECLARED."""
    return (
        *(_status(machine, observation) for machine in machines),
        *(MachineStatus(name=name, status="not declared") for name in undeclared),
    )


def unreachable(
    machines: Iterable[VirtualMachine], error: PyguixvmError
) -> tuple[MachineStatus, ...]:
    """Return the status of each of MACHINES, whose hypervisor did not answer for ERROR."""
    return tuple(
        MachineStatus(name=machine.name, status="unreachable", detail=error.message)
        for machine in machines
    )


def applied_statuses(
    observation: Observation, names: Iterable[str] = ()
) -> tuple[MachineStatus, ...]:
    """Return the status of our domains, of those NAMES if any, against what was applied."""
    wanted = tuple(names)
    return tuple(
        _compared(domain.metadata.generation.declaration, domain, observation.holders.get(name))
        if domain.metadata is not None
        else MachineStatus(
            name=name, status="not ours", state=domain.state, detail=domain.unreadable
        )
        for name, domain in sorted(observation.domains.items())
        if (domain.metadata is not None or domain.unreadable) and (not wanted or name in wanted)
    )


def _status(machine: VirtualMachine, observation: Observation) -> MachineStatus:
    domain = observation.domains.get(machine.name)
    holder = observation.holders.get(machine.name)
    if domain is None:
        detail = None if holder is None else f"being changed by {holder}"
        return MachineStatus(name=machine.name, status="missing", detail=detail)
    return _compared(machine, domain, holder)


def _compared(machine: VirtualMachine, domain: ObservedDomain, holder: str | None) -> MachineStatus:
    if domain.metadata is None:
        return MachineStatus(
            name=machine.name,
            status="not ours",
            state=domain.state,
            detail=domain.unreadable or "a domain of that name exists that pyguixvm did not make",
        )
    changed = differences(machine, domain)
    return MachineStatus(
        name=domain.name,
        status=_verdict(changed, domain, domain.metadata),
        generation=domain.metadata.current,
        state=domain.state,
        differences=changed,
        foreign=foreign_devices(machine, domain),
        detail=", ".join(_details(domain, domain.metadata.generation, holder)) or None,
        addresses=domain.addresses,
    )


def _details(domain: ObservedDomain, applied: Generation, holder: str | None) -> Iterator[str]:
    if holder is not None:
        yield f"being changed by {holder}"
    if domain.state not in ("running", "shut off"):
        yield domain.state
    if domain.saved:
        yield "its memory is kept: 'virsh start' lets it go on"
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
    unproven = metadata.generation.unseen or metadata.fallback is not None
    return "not seen ready" if unproven else "deployed"
