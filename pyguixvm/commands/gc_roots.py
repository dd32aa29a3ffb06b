# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines stand on in Guix's store is kept from its garbage collector, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from pyguixvm.commands.session import Session
from pyguixvm.errors import PyguixvmError
from pyguixvm.events import Notice
from pyguixvm.guix.roots import Link, Roots, leads_to, remove, roots_for
from pyguixvm.guix.store import is_built
from pyguixvm.hypervisor.connection import Connection, identity_from_here
from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import Observation
from pyguixvm.model.usage import Usage

# How far (seconds) the times of files may lag behind the clock.
_LAG = 1.0


class Known(msgspec.Struct, frozen=True):
    """What was seen of a hypervisor at BEGUN (seconds since the epoch).

    MACHINES are those of ours by the UUIDs of their domains.  UNREADABLE are UUIDs and names
    of those of which nothing is known but that they are there.  USED are the files that
    anything there uses, None where that is not known.
    """

    machines: Mapping[str, Metadata]
    unreadable: Collection[str]
    begun: float
    used: Collection[str] | None = None

    @property
    def present(self) -> frozenset[str]:
        """The UUIDs and the names of MACHINES."""
        return frozenset(self.machines) | {each.machine for each in self.machines.values()}


def roots_at(session: Session, connection: Connection) -> Roots:
    """Return where the links are for the machines on the hypervisor of CONNECTION."""
    hypervisor = identity_from_here(connection)
    return roots_for(hypervisor, connection.uri, session.environment, session.state_directory)


def known(observation: Observation, usage: Usage | None = None) -> Known:
    """Return what OBSERVATION, and USAGE, if it was looked at, say of what must be kept.

    USAGE says nothing of pools that are not active.
    """
    domains = observation.domains.values()
    if not set(observation.host.pools or ()) <= observation.pools.keys():
        usage = None
    return Known(
        machines={d.uuid: d.metadata for d in domains if d.metadata is not None},
        unreadable={
            name
            for domain in domains
            if domain.unreadable is not None
            for name in (domain.uuid, domain.name, domain.renamed_from)
            if name is not None
        },
        begun=observation.begun,
        used=None if usage is None else {*usage.backing.values(), *_named(usage)},
    )


def _named(usage: Usage) -> Iterator[str]:
    for files in usage.named():
        yield from files


def wanted_links(
    roots: Roots, links: Iterable[Link], seen: Known, *, local: bool
) -> dict[Path, str]:
    """Return the links that there should be, and their items.

    Disks of a hypervisor elsewhere, which is not LOCAL, do without our store: links for its
    machines are wanted by those who have some, since they make the next root of them.
    """
    mine = {link.owner for link in links}
    return {
        path: item
        for uuid, metadata in seen.machines.items()
        if local or uuid in mine or metadata.machine in mine
        for generation in metadata.generations
        for path, item in roots.of(uuid, generation).items()
    }


def superfluous(
    wanted: Mapping[Path, str], links: Iterable[Link], seen: Known, *, claims: bool
) -> Iterator[Link]:
    """Yield those LINKS that protect nothing that is WANTED; CLAIMS: claims may be among them.

    Not one that was made after what was SEEN, and not the last one that protects its item: a
    collection that goes on may have looked for the one beside it too early.
    """
    links = tuple(links)
    there = {link.path: link.item for link in links}
    lacking = {item for path, item in wanted.items() if there.get(path) != item}
    for link in links:
        if link.path in wanted or link.item in lacking or link.made > seen.begun - _LAG:
            continue
        if claims if link.owner is None else _is_spent(link, link.owner, seen):
            yield link


def _is_spent(link: Link, owner: str, seen: Known) -> bool:
    """Whether LINK, which no generation wants, was for one of OWNER, and is for nothing else."""
    if owner in seen.present:
        return True
    # Of a machine that is gone volumes may be there still.
    return owner not in seen.unreadable and seen.used is not None and link.item not in seen.used


def reconcile(
    session: Session, roots: Roots, seen: Known, *, local: bool, make: bool = True
) -> None:
    """Have the links of ROOTS be those for the generations of the machines that were SEEN.

    What cannot be made, or none if not to MAKE, is told of, and nothing else stops by it.
    """
    links = tuple(roots.links())
    wanted = wanted_links(roots, links, seen, local=local)
    with roots.alone() as alone:
        for link in superfluous(wanted, links, seen, claims=alone):
            remove(link.path)
    missing = {
        path: item
        for path, item in wanted.items()
        if make and not leads_to(path, item) and is_built(item)
    }
    try:
        session.store.realize({}, missing)
    except PyguixvmError as error:
        text = f"what machines stand on is not kept from Guix's garbage collector: {error.message}"
        session.emit(Notice(text, warning=True))


def release(
    session: Session, connection: Connection, observation: Observation, usage: Usage | None = None
) -> None:
    """Remove the links that OBSERVATION, and USAGE of all pools, say to protect nothing."""
    roots = roots_at(session, connection)
    reconcile(session, roots, known(observation, usage), local=connection.local, make=False)


def forget(
    session: Session, connection: Connection, machine: Collection[str], numbers: Collection[int]
) -> None:
    """Remove the links for the generations NUMBERS of MACHINE, by its UUID and its name."""
    for link in roots_at(session, connection).links():
        if link.owner in machine and link.generation in numbers:
            remove(link.path)
