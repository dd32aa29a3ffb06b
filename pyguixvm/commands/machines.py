# SPDX-License-Identifier: GPL-3.0-or-later
"""What all requests share that name machines which are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from pyguixvm.commands.session import Session
from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import Observation, ObservedDomain


class Done(msgspec.Struct, frozen=True, rename="kebab"):
    """What became of one machine; ERROR is why nothing did."""

    machine: str
    detail: str
    addresses: tuple[str, ...] = ()
    error: PyguixvmError | None = None


def is_ours(domain: ObservedDomain) -> bool:
    """Whether DOMAIN was made by pyguixvm, be its metadata readable or not."""
    return domain.metadata is not None or domain.unreadable is not None


def require_unprotected(what: str, metadata: Mapping[str, Metadata]) -> None:
    """Raise RequestRefusedError if one of the machines of METADATA may not be dealt with so."""
    for name, remembered in metadata.items():
        if remembered.generation.declaration.protect:
            raise RequestRefusedError(
                f"'{name}' is protected and not {what}; nothing was done",
                hint="Give --unprotect as well, or declare (protect? #f), and deploy that, first.",
            )


def machines_metadata(connection: Connection, names: Sequence[str]) -> dict[str, Metadata]:
    """Return the metadata of the domains NAMES, having made sure that all exist and are ours."""
    missing = [name for name in names if not domains.exists(connection, name)]
    if missing:
        raise no_machine(missing[0], observe(connection))
    return {name: domains.read_metadata(connection, name) for name in names}


def observed_metadata(observation: Observation, names: Sequence[str]) -> dict[str, Metadata]:
    """Return the metadata of the domains NAMES as `machines_metadata` does, from OBSERVATION."""
    missing = [name for name in names if name not in observation.domains]
    if missing:
        raise no_machine(missing[0], observation)
    return {name: _metadata(observation.domains[name]) for name in names}


def _metadata(domain: ObservedDomain) -> Metadata:
    if domain.unreadable is not None:
        raise RequestRefusedError(domain.unreadable, hint=domain.hint)
    if domain.metadata is None:
        raise domains.not_ours(domain.name)
    return domain.metadata


def no_machine(name: str, observation: Observation) -> RequestRefusedError:
    """Return what is to be raised for NAME, which no domain of OBSERVATION has."""
    there = (domain.name for domain in observation.domains.values() if is_ours(domain))
    return RequestRefusedError(
        f"there is no machine '{name}' on {observation.uri}",
        hint=f"Machines there: {', '.join(sorted(there)) or 'none'}.",
    )


def each_of(
    session: Session, verb: str, names: Sequence[str], one: Callable[[Connection, str], str]
) -> tuple[Done, ...]:
    """Do ONE, which is VERB, to each of the machines NAMES, all of which are known to be ours."""
    with connect(session.uri) as connection:
        machines_metadata(connection, names)

        def alone(name: str) -> Done:
            with held(connection, (name,), session.emit, verb):
                return Done(name, one(connection, name))

        return tried(names, alone)


def tried(names: Sequence[str], one: Callable[[str], Done]) -> tuple[Done, ...]:
    """Return what ONE makes of each of NAMES: of several, what fails does not stop the others."""
    if len(names) == 1:
        return (one(names[0]),)
    done = []
    for name in names:
        try:
            done.append(one(name))
        except PyguixvmError as error:
            done.append(Done(name, "failed", error=error))
    return tuple(done)
