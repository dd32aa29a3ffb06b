# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a hypervisor now, in one request for each domain and some for all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Flag, auto
from functools import partial
from pathlib import Path, PurePosixPath

import libvirt
import msgspec

from pyguixvm.hypervisor import data_records, pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.guest.inside import with_insides
from pyguixvm.hypervisor.host_parts import HostParts
from pyguixvm.hypervisor.machine_lock.lock import holders
from pyguixvm.hypervisor.machine_lock.secret import all_secrets
from pyguixvm.hypervisor.observe_domain import (
    capacities,
    described,
    with_addresses,
    with_disks,
    without_root,
)
from pyguixvm.hypervisor.shared_directories import store_access
from pyguixvm.hypervisor.states import all_states
from pyguixvm.hypervisor.statistics import pool_spaces, statistics
from pyguixvm.model.data_record import FoundRecord
from pyguixvm.model.observation import (
    Host,
    Observation,
    ObservedDomain,
    StoredVolume,
    disks_of,
)
from pyguixvm.model.volume_names import data_of, is_marker, is_ours, is_store_item, marker
from pyguixvm.xml.capabilities import maximum_vcpus
from pyguixvm.xml.domain import EMULATOR_MACHINE

_MIB = 1024**2


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
        names = connection.handle.listAllDomains
        autostarted = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))
        persistent = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        kept = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT))
        kept |= _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT))
        observed = []
        domains = all_states(connection.handle)
        named = {domain.name() for domain, _, _ in domains}
        used = statistics(connection) if Depth.STATISTICS in depth else {}
        for domain, state, reason in domains:
            uuid = domain.UUIDString()
            try:
                close = machines is None or domain.name() in machines
                known = None if close or before is None else before.domains.get(domain.name())
                if known is not None and known.uuid == uuid:
                    found = msgspec.structs.replace(known, state=state)
                else:
                    found = described(domain, state, named.__contains__)
                    if close and found.metadata is not None:
                        found = with_disks(connection, domain, found, kept=uuid in kept)
                        sizes = capacities(connection, domain, found)
                        found = msgspec.structs.replace(found, capacities=sizes)
                found = msgspec.structs.replace(
                    found,
                    autostart=uuid in autostarted,
                    persistent=uuid in persistent,
                    reason=reason,
                    statistics=used.get(uuid),
                )
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                    continue
                raise
            observed.append(
                with_addresses(connection, domain, found) if Depth.ADDRESSES in depth else found
            )
    if Depth.GUESTS in depth and not connection.read_only:
        observed = list(with_insides(observed, [domain for domain, _, _ in domains]))
    there = _whole_volumes(connection)
    observed = [without_root(connection, each, _volumes_of(each, there)) for each in observed]
    if Depth.HOST in depth:
        observed = list(_without_lost(connection, observed))
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


def _volumes_of(
    observed: ObservedDomain, there: Mapping[str, Collection[str]]
) -> Collection[str] | None:
    """Return those THERE in the pool of the root of OBSERVED, None if that is not active."""
    return there.get(observed.metadata.generation.pool) if observed.metadata else None


def _without_lost(
    connection: Connection, observed: Iterable[ObservedDomain]
) -> Iterator[ObservedDomain]:
    """Yield OBSERVED such that it is known which parts of the host ours do not find any more."""
    parts = HostParts(connection)
    for each in observed:
        if each.metadata is None:
            yield each
        else:
            yield msgspec.structs.replace(each, lost=parts.lost(each.defined))


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
