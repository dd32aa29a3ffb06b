# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a hypervisor now, in one request for each domain and some for all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Flag, auto
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import libvirt
import msgspec

from pyguixvm.hypervisor import data_records, pools, volumes
from pyguixvm.hypervisor.at_once import at_once
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.guest.inside import with_insides
from pyguixvm.hypervisor.machine_lock.lock import holders
from pyguixvm.hypervisor.machine_lock.secret import all_secrets
from pyguixvm.hypervisor.observe_domain import (
    capacities,
    described,
    with_addresses,
    with_disks,
)
from pyguixvm.hypervisor.shared_directories import store_access
from pyguixvm.hypervisor.states import all_states
from pyguixvm.hypervisor.statistics import pool_spaces, statistics
from pyguixvm.model.data_record import FoundRecord
from pyguixvm.model.observation import (
    Host,
    Observation,
    ObservedDomain,
    State,
    StoredVolume,
    disks_of,
)
from pyguixvm.model.statistics import Statistics
from pyguixvm.model.volume_names import data_of, is_marker, is_ours, is_store_item, marker
from pyguixvm.xml.capabilities import maximum_vcpus
from pyguixvm.xml.domain import EMULATOR_MACHINE

_MIB = 1024**2
# A domain, its state, and why it is in that, if that is known.
_Domain: TypeAlias = tuple[libvirt.virDomain, State, str | None]


class Depth(Flag):
    """What an observation holds beside domains and the names of volumes: each costs requests."""

    DOMAINS = 0
    # What the hypervisor's machine has.
    HOST = auto()
    # Of our machines that run.
    ADDRESSES = auto()
    # Sizes of our volumes, what they stand on, and whether they are whole.
    VOLUMES = auto()
    # Who is changing which machine.
    HOLDERS = auto()
    # What is remembered of data volumes for the machines that are looked at closely.
    RECORDS = auto()
    # What domains use, in one request for all, and how full the pools are.
    STATISTICS = auto()
    # What the guests of our machines say, each of which has some seconds for it.
    GUESTS = auto()


def observe(
    connection: Connection,
    depth: Depth = Depth.DOMAINS,
    *,
    machines: Collection[str] | None = None,
    before: Observation | None = None,
) -> Observation:
    """Return what is on the hypervisor, to DEPTH; domains that vanish meanwhile are left out.

    What others made of their disks is seen of MACHINES only, of all of ours if that is None.
    What was seen BEFORE is not looked at again: the host, and domains but those of MACHINES.

    Whoever shows something of a hypervisor, or plans for it, looks at it here.
    """
    begun = before.begun if before else time.time()
    with explained("list the domains"):
        domains = all_states(connection.handle)
        look = _look(connection, depth, domains, machines, before)
        # On this machine, threads take longer than what they would wait for.
        looks = map(look.at, domains) if connection.local else at_once(look.at, domains)
        observed = [found for found in looks if found is not None]
    if Depth.GUESTS in depth and not connection.read_only:
        observed = list(with_insides(observed, [domain for domain, _, _ in domains]))
    there = _whole_volumes(connection)
    wanted = partial(_is_missing, observed, machines)
    secrets = _secrets(connection) if depth & (Depth.HOLDERS | Depth.RECORDS) else []
    return Observation(
        uri=connection.uri,
        local=connection.local,
        domains={domain.name: domain for domain in observed},
        volumes=tuple(sorted({name for names in there.values() for name in names})),
        pools=there,
        images=frozenset(_images_here(observed)),
        store=store_access(connection.uri, os.geteuid()),
        host=_host_seen(connection, depth, before),
        stored=tuple(_stored(connection)) if Depth.VOLUMES in depth else (),
        holders=_holders(connection, secrets) if Depth.HOLDERS in depth else {},
        recorded=_recorded(connection, secrets, wanted, there) if Depth.RECORDS in depth else (),
        begun=begun,
        spaces=pool_spaces(connection) if Depth.STATISTICS in depth else (),
    )


@dataclass(frozen=True)
class _Look:
    """A look at each domain; what is known of all of them was asked for once.

    AUTOSTARTED, PERSISTENT and KEPT, those with snapshots or checkpoints, are UUIDs.
    """

    connection: Connection
    depth: Depth
    machines: Collection[str] | None
    before: Observation | None
    autostarted: frozenset[str]
    persistent: frozenset[str]
    kept: frozenset[str]
    named: frozenset[str]
    used: Mapping[str, Statistics]

    def at(self, item: _Domain) -> ObservedDomain | None:
        """Return what is to be seen of the domain of ITEM; None if it is gone."""
        domain, _, reason = item
        uuid = domain.UUIDString()
        try:
            found = msgspec.structs.replace(
                self._described(item),
                autostart=uuid in self.autostarted,
                persistent=uuid in self.persistent,
                reason=reason,
                statistics=self.used.get(uuid),
            )
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                return None
            raise
        if Depth.ADDRESSES in self.depth:
            return with_addresses(self.connection, domain, found)
        return found

    def _described(self, item: _Domain) -> ObservedDomain:
        domain, state, _ = item
        name, uuid = domain.name(), domain.UUIDString()
        close = self.machines is None or name in self.machines
        known = None if close or self.before is None else self.before.domains.get(name)
        if known is not None and known.uuid == uuid:
            return msgspec.structs.replace(known, state=state)
        found = described(domain, state, self.named.__contains__)
        if not close or found.metadata is None:
            return found
        found = with_disks(self.connection, domain, found, kept=uuid in self.kept)
        sizes = capacities(self.connection, domain, found)
        return msgspec.structs.replace(found, capacities=sizes)


def _look(
    connection: Connection,
    depth: Depth,
    domains: Iterable[_Domain],
    machines: Collection[str] | None,
    before: Observation | None,
) -> _Look:
    names = connection.handle.listAllDomains
    kept = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT))
    return _Look(
        connection,
        depth,
        machines,
        before,
        autostarted=_uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)),
        persistent=_uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)),
        kept=kept | _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT)),
        named=frozenset(domain.name() for domain, _, _ in domains),
        used=statistics(connection) if Depth.STATISTICS in depth else {},
    )


def _secrets(connection: Connection) -> list[libvirt.virSecret]:
    with explained("list the secrets"):
        return all_secrets(connection)


def _holders(connection: Connection, secrets: Iterable[libvirt.virSecret]) -> dict[str, str]:
    return {machine: str(holder) for machine, holder in holders(connection, secrets).items()}


def _recorded(
    connection: Connection,
    secrets: Iterable[libvirt.virSecret],
    wanted: Callable[[str], bool],
    there: Mapping[str, Collection[str]],
) -> tuple[FoundRecord, ...]:
    """Return the records among SECRETS of data volumes WANTED; THERE are those of each pool."""
    return tuple(
        data_records.compared(connection, each)
        if each.volume in there.get(each.pool, ())
        else FoundRecord(each)
        for each in data_records.among(secrets, wanted)
    )


def _is_missing(
    observed: Iterable[ObservedDomain], machines: Collection[str] | None, volume: str
) -> bool:
    """Whether VOLUME is called as that of one of MACHINES, any if None, that is without it.

    OBSERVED are the domains that there are.
    """
    named = data_of(volume)
    if named is None or (machines is not None and named[0] not in machines):
        return False
    own = (each for each in observed if each.name == named[0])
    return all(
        PurePosixPath(file).name != volume
        for domain in own
        for file in disks_of(domain.defined, domain.live)
    )


def _stored(connection: Connection) -> Iterator[StoredVolume]:
    for pool in pools.active(connection):
        for volume in volumes.list_ours(connection, pool):
            yield StoredVolume(
                pool=pool,
                name=volume.name,
                allocation=volume.allocation,
                whole=not volumes.incomplete(connection, pool, volume.name),
                base=volumes.base(connection, pool, volume.name),
            )


def _host_seen(connection: Connection, depth: Depth, before: Observation | None) -> Host:
    if Depth.HOST not in depth:
        return Host()
    return _host(connection) if before is None else before.host


def _host(connection: Connection) -> Host:
    """Return what the hypervisor's machine has, as far as the hypervisor can say it."""
    memory = maximum_cpu = networks = pools = None
    with suppress(libvirt.libvirtError):
        memory = connection.handle.getInfo()[1] * _MIB
    with suppress(libvirt.libvirtError):
        offered = connection.handle.getDomainCapabilities(None, None, EMULATOR_MACHINE, None)
        maximum_cpu = maximum_vcpus(offered)
    with suppress(libvirt.libvirtError):
        networks = tuple(sorted(each.name() for each in connection.handle.listAllNetworks()))
    with suppress(libvirt.libvirtError):
        pools = tuple(sorted(each.name() for each in connection.handle.listAllStoragePools()))
    return Host(memory=memory, maximum_cpu=maximum_cpu, networks=networks, pools=pools)


def _images_here(observed: Iterable[ObservedDomain]) -> Iterator[str]:
    """Yield the images of generations of OBSERVED that this machine's store has."""
    for domain in observed:
        for generation in domain.metadata.generations if domain.metadata else ():
            if is_store_item(generation.image) and Path(generation.image).exists():
                yield generation.image


def _whole_volumes(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return the names of our volumes in each active pool, without those half sent."""
    found = {}
    with explained("list the volumes"):
        flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        for pool in connection.handle.listAllStoragePools(flags):
            with _unless_stopped(pool):
                names = {name for name in pool.listVolumes() if is_ours(name)}
                whole = (n for n in names if not is_marker(n) and marker(n) not in names)
                found[pool.name()] = tuple(sorted(whole))
    return found


@contextmanager
def _unless_stopped(pool: libvirt.virStoragePool) -> Iterator[None]:
    """Leave out what the body is about if POOL is stopped, or removed, meanwhile."""
    try:
        yield
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
            return
        if not is_code(error, libvirt.VIR_ERR_OPERATION_INVALID) or pool.isActive():
            raise


def _uuids(domains: list[libvirt.virDomain]) -> frozenset[str]:
    return frozenset(domain.UUIDString() for domain in domains)
