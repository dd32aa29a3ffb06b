# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a hypervisor now, in one request for each domain and some for all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import libvirt
import msgspec

from pyguixvm.hypervisor import disks
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.failure import explained, is_code
from pyguixvm.hypervisor.sharing import store_access
from pyguixvm.model.names import data_of, is_marker, is_ours, is_store_item, marker
from pyguixvm.model.observation import Observation, ObservedDomain, State
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.metadata import NAMESPACE, UnreadableMetadataError, read_metadata

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


def observe(connection: Connection) -> Observation:
    """Return the domains of the hypervisor; those that vanish meanwhile are left out."""
    with explained("list the domains"):
        names = connection.handle.listAllDomains
        autostarted = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))
        persistent = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        states = {uuid: state for state, only in _FILTERS.items() for uuid in _uuids(names(only))}
        kept = _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT))
        kept |= _uuids(names(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT))
        observed = []
        for domain in names(0):
            uuid = domain.UUIDString()
            try:
                found = _described(domain, states.get(uuid) or domain_state(domain))
                found = msgspec.structs.replace(
                    _with_disks(connection, domain, found, kept=uuid in kept),
                    autostart=uuid in autostarted,
                    persistent=uuid in persistent,
                )
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                    continue
                raise
            observed.append(found)
    return Observation(
        uri=connection.uri,
        local=connection.local,
        domains={domain.name: domain for domain in observed},
        volumes=_whole_volumes(connection),
        images=frozenset(_images_here(observed)),
        store=store_access(connection.uri, os.geteuid()),
    )


def observe_domain(connection: Connection, name: str) -> ObservedDomain:
    """Return domain NAME as `observe` does, autostart and persistence left out.

    Raises HypervisorError if there is no such domain.
    """
    with explained(f"look at domain '{name}'"):
        domain = connection.handle.lookupByName(name)
        return _with_disks(connection, domain, _described(domain, domain_state(domain)), kept=True)


def _described(domain: libvirt.virDomain, state: State) -> ObservedDomain:
    """Return what the XML of DOMAIN says, which is in STATE."""
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    # What only others care about is not worth a request.
    ours = NAMESPACE in xml and state != "shut off"
    return _observed(xml, domain.XMLDesc(0) if ours else None, state)


def _with_disks(
    connection: Connection, domain: libvirt.virDomain, observed: ObservedDomain, *, kept: bool
) -> ObservedDomain:
    """Return OBSERVED with what there is to know of the disks of DOMAIN.

    KEPT: libvirt may keep snapshots or checkpoints of it.
    """
    found = msgspec.structs.replace(observed, snapshots=disks.snapshots(domain) if kept else ())
    if observed.metadata is None:
        return found
    live = observed.live
    return msgspec.structs.replace(
        found,
        defined=disks.completed(connection, observed.defined),
        live=None if live is None else disks.completed(connection, live),
        capacities=_capacities(domain, observed),
        checkpoints=disks.checkpoints(domain) if kept else (),
        jobs=() if live is None else tuple(disks.jobs(domain, live)),
    )


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


def _observed(xml: str, live: str | None, state: State) -> ObservedDomain:
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
        autostart=False,
        persistent=True,
        defined=found.hardware,
        live=None if live is None else inspect_domain(live).hardware,
        metadata=metadata,
        unreadable=unreadable,
    )
