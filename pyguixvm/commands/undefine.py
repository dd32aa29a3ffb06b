# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are removed, with what is theirs and nobody else uses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

import msgspec

from pyguixvm.apply import data_records
from pyguixvm.apply.unused_volumes import delete_others, usage
from pyguixvm.commands.gc_roots import forget, release
from pyguixvm.commands.machines import Done, observed_metadata, require_unprotected
from pyguixvm.commands.session import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains, incomplete_volume, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import Lock, held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.usage import Address, Kept, Usage
from pyguixvm.model.volume_names import data_of, data_volume, generation_of
from pyguixvm.plan.disks import all_disks
from pyguixvm.plan.interference import (
    require_idle_disks,
    require_own_disks,
    require_unkept,
)


class Removal(msgspec.Struct, frozen=True, rename="kebab"):
    """What undefining a machine takes away: (pool, volume) pairs, and its GC roots.

    DATA are volumes of its data disks, which go with DELETE_DATA only.  OTHERS are named as
    such, but its definition does not have them: they stay.  KEPT are those that stay since
    something else uses them.
    """

    machine: str
    running: bool
    volumes: tuple[tuple[str, str], ...]
    generations: tuple[int, ...]
    data: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    delete_data: bool = False
    kept: tuple[Kept, ...] = ()

    @property
    def wanted(self) -> tuple[Address, ...]:
        """The volumes that go unless something else uses them."""
        return (*self.volumes, *(self.data if self.delete_data else ()))


def removals(
    session: Session,
    names: Sequence[str],
    *,
    keep_volumes: bool,
    delete_data: bool = False,
    unprotect: bool = False,
) -> tuple[Removal, ...]:
    """Return what undefining the machines NAMES would take away; nothing is done.

    Raises RequestRefusedError if one is protected, unless UNPROTECT, and if there are
    snapshots, checkpoints or layers of others, or work that goes on at its disks.
    """
    with connect(session.uri) as connection:
        observation = observe(connection)
        metadata = observed_metadata(observation, names)
        if not unprotect:
            require_unprotected("removed", metadata)
        used = usage(connection)
        return tuple(
            _removal(
                connection,
                observation,
                name,
                used,
                keep_volumes=keep_volumes,
                delete_data=delete_data,
            )
            for name in names
        )


def _removal(
    connection: Connection,
    observation: Observation,
    name: str,
    used: Usage,
    *,
    keep_volumes: bool,
    delete_data: bool,
) -> Removal:
    domain = observation.domains[name]
    require_unkept(domain)
    require_own_disks(domain)
    require_idle_disks(domain)
    metadata = domain.metadata
    data = tuple(data_volumes(connection, domain))
    removal = Removal(
        machine=name,
        running=domain.state != "shut off",
        volumes=() if keep_volumes or metadata is None else tuple(root_volumes(metadata)),
        generations=() if keep_volumes or metadata is None else metadata.numbers,
        data=data,
        others=tuple(other_data(observation, name, data)),
        delete_data=delete_data,
    )
    kept = used.kept(removal.wanted, leaving={name})
    return msgspec.structs.replace(removal, kept=kept)


def undefine(session: Session, agreed: Sequence[Removal]) -> tuple[Done, ...]:
    """Take away what was AGREED on, and nothing that anything else uses by now.

    The definition goes first: a volume without a machine is waste, a machine
    without its volume would be a loss.
    """
    done = []
    with connect(session.uri) as connection:
        for removal in agreed:
            with held(connection, (removal.machine,), session.emit, "undefine") as lock:
                still = _still(connection, removal)
                _remove(session, connection, still, lock)
            done.append(Done(removal.machine, _removed(still)))
        release(session, connection, observe(connection))
    return tuple(done)


def _still(connection: Connection, agreed: Removal) -> Removal:
    """Return what was AGREED on as it is now.

    Raises RequestRefusedError if that is another machine, or has got another root or disk.
    """
    name = agreed.machine
    observation = observe(connection)
    observed_metadata(observation, [name])
    now = _removal(
        connection,
        observation,
        name,
        usage(connection),
        keep_volumes=not agreed.generations,
        delete_data=agreed.delete_data,
    )
    if msgspec.structs.replace(now, running=agreed.running, kept=agreed.kept) != agreed:
        raise RequestRefusedError(
            f"'{name}' was changed by somebody else meanwhile; it was left as it is",
            hint="See what would be removed now, and run the command again.",
        )
    return now


def _remove(session: Session, connection: Connection, removal: Removal, lock: Lock) -> None:
    name = removal.machine
    lock.require(name)
    staying = {(each.pool, each.volume) for each in removal.kept}
    # Of roots alone: data is never taken for what somebody broke off.
    for pool, volume in removal.volumes:
        if (pool, volume) not in staying:
            incomplete_volume.condemn(connection, pool, volume)
    domain = domains.find(connection, name)
    # Whoever undefines it by other means, or is killed, leaves what can be found all the same.
    data_records.record_kept(connection, domains.read_metadata(connection, name), removal.data)
    if removal.running:
        domains.destroy(connection, name)
    domains.undefine(connection, name)
    lock.require(name)
    delete_others(connection, removal.wanted, removal.kept)
    if removal.delete_data:
        data_records.forget(connection, set(removal.data) - staying)
    needed = {generation_of(each.volume) for each in removal.kept}
    gone = {number for number in removal.generations if (name, number) not in needed}
    if domain is not None:
        forget(session, connection, (domain.uuid, name), gone)


def _removed(removal: Removal) -> str:
    said = ["removed", *map(str, removal.kept)]
    if removal.delete_data and removal.others:
        left = ", ".join(f"{volume} in pool {pool}" for pool, volume in removal.others)
        said.append(f"left, since it was not defined with it: {left}")
    if removal.data and not removal.delete_data:
        data = ", ".join(volume for _, volume in removal.data)
        said.append(
            f"its data is kept in {data} for the next machine of this name "
            "('undefine --delete-data' deletes data, too)"
        )
    return "; ".join(said)


def root_volumes(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield pool and name of each root volume of METADATA, and of what these stand on, once."""
    yield from metadata.roots


def data_volumes(connection: Connection, domain: ObservedDomain) -> Iterator[Address]:
    """Yield pool and name of each data volume of DOMAIN: recorded, and where it is defined.

    One that is only called as such a one may be anybody's, a copy or a clone's.
    """
    metadata = domain.metadata
    recorded = {
        data_volume(generation.declaration.name, disk.name)
        for generation in (metadata.generations if metadata else ())
        for disk in generation.declaration.domain.disks
        if isinstance(disk, DataDisk)
    }
    for path in dict.fromkeys(all_disks(domain)):
        if PurePosixPath(path).name in recorded:
            found = volumes.at(connection, path)
            if found is not None:
                yield found.pool, found.name


def other_data(
    observation: Observation, machine: str, data: Collection[Address]
) -> Iterator[Address]:
    """Yield pool and name of volumes that are named as MACHINE's, and are none of its DATA."""
    for pool, there in observation.pools.items():
        for volume in there:
            named = data_of(volume)
            if named is not None and named[0] == machine and (pool, volume) not in data:
                yield pool, volume
