# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a machine is: which deployment declares it, on which hypervisor; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import TypeAlias

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import Observation
from pyguixvm.plan.difference import ABSENT


class Owner(msgspec.Struct, frozen=True):
    """The deployment that declares machines, as seen from one of its hypervisors.

    NAME is None for one without a name, which has no machines but those that it declares.
    COMPLETE: the machines at hand are all that it declares for this hypervisor.
    ELSEWHERE are URIs of its other hypervisors by the names of machines that it declares for
    this one, and that are its own there, or, if it has no name, of no deployment;
    AWAITED are machines here that it declares for those and that are not there yet, or that may
    not be.  UNSEEN are URIs of hypervisors that did not answer: there may be anything.
    """

    name: str | None = None
    complete: bool = False
    elsewhere: dict[str, str] = {}
    awaited: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()


_Declared: TypeAlias = tuple[Collection[VirtualMachine], Observation]


def owners(
    hypervisors: Sequence[_Declared],
    *,
    name: str | None,
    complete: bool,
    unseen: Mapping[str, Collection[VirtualMachine]] = {},
) -> tuple[Owner, ...]:
    """Return the deployment NAME as seen from each of HYPERVISORS.

    These are what is declared for each, and what there is.  UNSEEN is what is declared for
    those that did not answer, by their URIs.
    """
    # Where each name is to be found, and where it is awaited, which is looked up: there may be
    # hundreds of hypervisors, and what each pair of them has in common is no one's business.
    found: dict[str, list[int]] = {}
    awaited: dict[str, list[int | None]] = {}
    for index, (machines, observation) in enumerate(hypervisors):
        ours = {*_machines_of(name, observation)}
        for machine in ours if name else _nobodys(observation):
            found.setdefault(machine, []).append(index)
        for each in machines:
            if each.name not in ours:
                awaited.setdefault(each.name, []).append(index)
    for each in (machine for machines in unseen.values() for machine in machines):
        awaited.setdefault(each.name, []).append(None)
    return tuple(
        Owner(
            name=name,
            complete=complete,
            elsewhere={
                machine.name: hypervisors[other][1].uri
                for machine in machines
                for other in found.get(machine.name, ())
                if other != index
            },
            awaited=frozenset(
                domain
                for domain in observation.domains
                if any(other != index for other in awaited.get(domain, ()))
            ),
            unseen=tuple(unseen),
        )
        for index, (machines, observation) in enumerate(hypervisors)
    )


def _machines_of(deployment: str | None, observation: Observation) -> Iterator[str]:
    """Yield the names of the machines of DEPLOYMENT, if it has a name, in order."""
    for name, domain in sorted(observation.domains.items()):
        if deployment and domain.metadata and domain.metadata.deployment == deployment:
            yield name


def _nobodys(observation: Observation) -> Iterator[str]:
    """Yield the names of the machines that are of no deployment, in order."""
    for name, domain in sorted(observation.domains.items()):
        if domain.metadata and domain.metadata.deployment is None:
            yield name


def undeclared(
    machines: Iterable[VirtualMachine], observation: Observation, owner: Owner
) -> Iterator[str]:
    """Yield the machines of OWNER that are there and not among MACHINES, all that it declares.

    Not one that is to be on another hypervisor and is not there yet.
    """
    declared = {machine.name for machine in machines} | owner.awaited
    if owner.complete:
        yield from (n for n in _machines_of(owner.name, observation) if n not in declared)


def require_not_elsewhere(machine: VirtualMachine, uri: str, owner: Owner) -> None:
    """Raise if MACHINE, which the hypervisor at URI has not, is on another one of OWNER's.

    Or if it may be, since that one did not answer.
    """
    other = owner.elsewhere.get(machine.name)
    if other is not None:
        of = f" of deployment '{owner.name}'" if owner.name else ""
        another = "" if owner.name else " If that is another machine, give this deployment a name."
        raise RequestRefusedError(
            f"'{machine.name}'{of} is on {other}, and is declared for {uri}",
            hint="This moves it there, with its data: pyguixvm migrate CONFIG "
            f"{machine.name}. Or declare it for {other} as before, or remove it there: "
            f"pyguixvm -c {quote(other)} undefine {machine.name}.{another}",
        )
    if owner.name is not None and owner.unseen:
        raise RequestRefusedError(
            f"'{machine.name}' is not on {uri}, and may be on {' or '.join(owner.unseen)}, "
            "which did not answer",
            hint="Deploy it when that answers; or alone, if you know that it is not there: "
            f"pyguixvm deploy CONFIG {machine.name}",
        )


def require_owned(machine: VirtualMachine, metadata: Metadata, owner: Owner) -> None:
    """Raise if METADATA says that MACHINE is of another deployment than OWNER."""
    theirs = metadata.deployment
    if theirs in {None, owner.name}:
        return
    ours = (
        f"deployment '{owner.name}' declares it, too"
        if owner.name
        else "what declares it here is a deployment without a name"
    )
    raise RequestRefusedError(
        f"'{machine.name}' belongs to deployment '{theirs}', and {ours}",
        hint=f"Undefine it there, declare another name here, or let this be that deployment: "
        f'(deployment (name "{theirs}") (machines …)).',
    )


def taken_over(metadata: Metadata, owner: Owner) -> Iterator[Difference]:
    """Yield that a machine of no deployment, as METADATA says, becomes one of OWNER's."""
    if owner.name is not None and metadata.deployment is None:
        yield Difference(path="deployment", old=ABSENT, new=owner.name, effect="live")
