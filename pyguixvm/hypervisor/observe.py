# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a hypervisor now, in one request for each domain and some for all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import libvirt
import msgspec

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.failure import explained, is_code
from pyguixvm.hypervisor.sharing import store_access
from pyguixvm.model.names import data_of, is_marker, is_ours, is_store_item, marker
from pyguixvm.model.observation import Host, Observation, ObservedDomain, State
from pyguixvm.xml.capabilities import maximum_vcpus
from pyguixvm.xml.domain import EMULATOR_MACHINE
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.metadata import NAMESPACE, UnreadableMetadataError, read_metadata

_MIB = 1024**2
# virDomainState.  SHUTDOWN means "being shut down": the guest still runs.
_STATES: dict[int, State] = {
    libvirt.VIR_DOMAIN_NOSTATE: "running",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}

# Filters of virConnectListAllDomains: each answers for all domains at once.
_FILTERS: dict[State, int] = {
    "running": libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING,
    "paused": libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED,
    "shut off": libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
}


def observe(connection: Connection, *, host: bool = False) -> Observation:
    """Return the domains of the hypervisor; those that vanish meanwhile are left out.

    HOST: and what its machine has.
    """
    with explained("list the domains"):
        names = connection.handle.listAllDomains
        autostarted = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))
        persistent = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        states = {uuid: state for state, only in _FILTERS.items() for uuid in _uuids(names(only))}
        observed = []
        for domain in names(0):
            uuid = domain.UUIDString()
            try:
                state = states.get(uuid) or domain_state(domain)
                xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
                # What only others care about is not worth a request.
                ours = NAMESPACE in xml and state != "shut off"
                live = domain.XMLDesc(0) if ours else None
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                    continue
                raise
            found = _observed(
                xml, live, state, autostart=uuid in autostarted, persistent=uuid in persistent
            )
            observed.append(msgspec.structs.replace(found, capacities=_capacities(domain, found)))
    return Observation(
        uri=connection.uri,
        local=connection.local,
        domains={domain.name: domain for domain in observed},
        volumes=_whole_volumes(connection),
        images=frozenset(_images_here(observed)),
        store=store_access(connection.uri, os.geteuid()),
        host=_host(connection) if host else Host(),
    )


def _host(connection: Connection) -> Host:
    """Return what the hypervisor's machine has, as far as the hypervisor can say it."""
    memory = maximum_cpu = None
    with suppress(libvirt.libvirtError):
        memory = connection.handle.getInfo()[1] * _MIB
    with suppress(libvirt.libvirtError):
        offered = connection.handle.getDomainCapabilities(None, None, EMULATOR_MACHINE, None)
        maximum_cpu = maximum_vcpus(offered)
    return Host(memory=memory, maximum_cpu=maximum_cpu)


def _images_here(observed: Iterable[ObservedDomain]) -> Iterator[str]:
    """Yield the images of generations of OBSERVED that this machine's store has."""
    for domain in observed:
        for generation in domain.metadata.generations if domain.metadata else ():
            if is_store_item(generation.image) and Path(generation.image).exists():
                yield generation.image


def _whole_volumes(connection: Connection) -> tuple[str, ...]:
    """Return the names of our volumes in the active pools, without those half sent."""
    with explained("list the volumes"):
        flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        pools = connection.handle.listAllStoragePools(flags)
        found = {name for pool in pools for name in pool.listVolumes() if is_ours(name)}
    return tuple(
        sorted(name for name in found if not is_marker(name) and marker(name) not in found)
    )


def _capacities(domain: libvirt.virDomain, observed: ObservedDomain) -> dict[str, int]:
    """Return the sizes (bytes) of the data disks of DOMAIN, one request for each."""
    if observed.metadata is None:
        return {}
    capacities = {}
    for path in {*observed.defined.disks, *(observed.live.disks if observed.live else ())}:
        volume = PurePosixPath(path).name
        if data_of(volume) is not None:
            # A volume that is gone has no size; whoever needs it will say so.
            with suppress(libvirt.libvirtError):
                capacities[volume] = domain.blockInfo(path)[0]
    return capacities


def domain_state(domain: libvirt.virDomain) -> State:
    """Return the state that DOMAIN is in now."""
    return _STATES.get(domain.state()[0], "running")


def _uuids(domains: list[libvirt.virDomain]) -> frozenset[str]:
    return frozenset(domain.UUIDString() for domain in domains)


def _observed(
    xml: str, live: str | None, state: State, *, autostart: bool, persistent: bool
) -> ObservedDomain:
    found = inspect_domain(xml)
    metadata, unreadable = None, None
    try:
        metadata = read_metadata(found.root)
    except UnreadableMetadataError as error:
        unreadable = error.message
    return ObservedDomain(
        name=found.name,
        uuid=found.uuid,
        state=state,
        autostart=autostart,
        persistent=persistent,
        defined=found.hardware,
        live=None if live is None else inspect_domain(live).hardware,
        metadata=metadata,
        unreadable=unreadable,
    )
