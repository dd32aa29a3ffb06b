# SPDX-License-Identifier: GPL-3.0-or-later
"""One domain as it is now: what its XML says, its disks, its guest's addresses."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import TypeAlias

import libvirt
import msgspec
from lxml import etree

from pyguixvm.advice import words
from pyguixvm.hypervisor import disks, volumes
from pyguixvm.hypervisor.at_once import begun, each
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Domain, Which, exists
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.guest import boot_record
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.states import has_kept_memory, state_and_reason
from pyguixvm.model.observation import ObservedDomain, Snapshot, State, disks_of
from pyguixvm.model.volume_names import data_of, file_name
from pyguixvm.xml.inspection import VOLUME_DISK, InspectedDomain, inspect_domain
from pyguixvm.xml.metadata import (
    NAMESPACE,
    StrayMetadataError,
    UnreadableMetadataError,
    read_metadata,
)

# By which XML a domain is defined, and by which it runs.
Read: TypeAlias = tuple[Callable[[], str], Callable[[], str]]
# Snapshots and the names of checkpoints, parents first.
Kept: TypeAlias = tuple[tuple[Snapshot, ...], tuple[str, ...]]


def observe_domain(
    connection: Connection,
    name: Which,
    xml: str | None = None,
    *,
    closely: bool = True,
    rooted: Callable[[], bool | None] | None = None,
) -> ObservedDomain:
    """Return domain NAME as `observe` does; autostart, persistence and sizes are left out.

    XML is what it is defined by, if that was read already, and ROOTED tells whether its pool
    has its root, if that is asked already.  Unless CLOSELY, it is what XML says of it, and
    nothing more.  Raises HypervisorError if there is no such domain.
    """
    with explained(f"look at domain '{name}'"):
        domain = name.handle if isinstance(name, Domain) else connection.handle.lookupByName(name)
        far = not connection.local
        runs = begun(partial(domain.XMLDesc, 0), far=far)
        kept = kept_of(domain, far=far and closely)
        state, reason = state_and_reason(domain)
        xml = xml or domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        found, _ = described(state, lambda other: exists(connection, other), runs, xml)
        if not closely:
            return found
        lost_root = begun(partial(_has_lost_root, connection, found, rooted), far=far)
        found = with_disks(connection, domain, found, kept)
        found = msgspec.structs.replace(
            found, reason=reason, root_gone=found.root_gone or lost_root()
        )
        return without_data(connection, found)


def described(
    state: State,
    is_there: Callable[[str], bool],
    runs: Callable[[], str],
    xml: str,
) -> tuple[ObservedDomain, etree._Element | None]:
    """Return what XML says, by which a domain is defined that is in STATE; and how it runs.

    IS_THERE tells whether there is a domain of a name, and RUNS by which XML this one runs.
    """
    # What only others care about is not worth a request.
    ours = NAMESPACE in xml and state != "shut off"
    live = inspect_domain(runs()) if ours else None
    return _observed(xml, live, state, is_there), None if live is None else live.root


def read(domain: libvirt.virDomain, *, far: bool) -> Read:
    """Return what tells by which XML DOMAIN is defined, and by which it runs.

    If that is FAR away, it is asked for both at once, and now.
    """
    return (
        begun(partial(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE), far=far),
        begun(partial(domain.XMLDesc, 0), far=far),
    )


def kept_of(domain: libvirt.virDomain, *, far: bool) -> Callable[[], Kept]:
    """Ask what libvirt keeps of DOMAIN; return what waits for that, if it is FAR away."""
    snapshots = begun(partial(disks.snapshots, domain), far=far)
    checkpoints = begun(partial(disks.checkpoints, domain), far=far)
    return lambda: (snapshots(), checkpoints())


def with_disks(
    connection: Connection,
    domain: libvirt.virDomain,
    observed: ObservedDomain,
    kept: Callable[[], Kept] = lambda: ((), ()),
) -> ObservedDomain:
    """Return OBSERVED with what there is to know of the disks of DOMAIN.

    KEPT tells what libvirt keeps of it.  That of other domains is nobody's business here.
    """
    if observed.metadata is None:
        return observed
    live, far = observed.live, not connection.local
    jobs = () if live is None else disks.jobs(domain, live, far=far)
    snapshots, checkpoints = kept()
    return msgspec.structs.replace(
        observed,
        snapshots=snapshots,
        defined=disks.completed(connection, observed.defined),
        live=None if live is None else disks.completed(connection, live),
        checkpoints=checkpoints,
        jobs=jobs,
        root_gone=live is None and _root_gone(domain, observed),
        saved=live is None and has_kept_memory(domain),
        without_balloon=live is not None
        and live.memory != observed.defined.memory
        and not _has_balloon(domain),
    )


def without_root(
    connection: Connection, observed: ObservedDomain, volumes_there: Mapping[str, Collection[str]]
) -> ObservedDomain:
    """Return OBSERVED such that it is known if its guest runs on a root volume that was deleted.

    VOLUMES_THERE are the names of the volumes in each pool that is active, as far as that
    knows.  What somebody deleted behind its back is asked for where files of the hypervisor's
    can be seen, and that one cannot.  QEMU goes on with a file that it has open, and libvirt
    does not look whether that has a name.
    """
    if observed.live is None or observed.metadata is None:
        return observed
    pool, volume = observed.metadata.generation.pool, observed.metadata.generation.volume
    there = volumes_there.get(pool)
    if there is None:
        return observed
    # They may have been listed before it was made.
    gone = volume not in there or _is_out_of_sight(connection, observed, volume)
    if gone:
        gone = volumes.is_there(connection, pool, volume) is False
    return msgspec.structs.replace(observed, root_gone=gone)


def _has_lost_root(
    connection: Connection, observed: ObservedDomain, rooted: Callable[[], bool | None] | None
) -> bool:
    """Whether the guest of OBSERVED, if it runs, does so on a root that its pool has not now.

    ROOTED is as for `observe_domain`.
    """
    if observed.live is None or observed.metadata is None:
        return False
    current = observed.metadata.generation
    ask = rooted or partial(volumes.is_there, connection, current.pool, current.volume)
    return ask() is False


def without_data(
    connection: Connection,
    observed: ObservedDomain,
    volumes_there: Mapping[str, Collection[str]] | None = None,
) -> ObservedDomain:
    """Return OBSERVED such that it is known which data volumes its guest runs on were deleted.

    VOLUMES_THERE are as for `without_root`; None: only what can be seen from here is.
    """
    if observed.live is None or observed.metadata is None:
        return observed
    gone = []
    for disk in observed.live.stacks:
        name = file_name(disk.source)
        if data_of(name) is None or not disk.source.startswith("/"):
            continue
        listed = volumes_there is None or any(name in each for each in volumes_there.values())
        unseen = connection.local and not os.path.exists(disk.source)  # noqa: PTH110 -- never raises
        if (unseen or not listed) and _is_deleted(connection, PurePosixPath(disk.source)):
            gone.append(name)
    return msgspec.structs.replace(observed, data_gone=tuple(gone))


def _is_deleted(connection: Connection, path: PurePosixPath) -> bool:
    """Whether the pool whose directory PATH is in is active, and has no such file any more."""
    with suppress(libvirt.libvirtError):
        pool = connection.handle.storagePoolLookupByTargetPath(str(path.parent))
        return volumes.is_there(connection, pool.name(), path.name) is False
    return False


def _is_out_of_sight(connection: Connection, observed: ObservedDomain, volume: str) -> bool:
    """Whether VOLUME, on which OBSERVED runs, could be seen from here, and is not."""
    stacks = observed.live.stacks if connection.local and observed.live else ()
    paths = [disk.source for disk in stacks if file_name(disk.source) == volume]
    return not all(map(os.path.exists, paths))


def with_addresses(
    connection: Connection,
    domain: libvirt.virDomain,
    observed: ObservedDomain,
    live: etree._Element | None,
) -> ObservedDomain:
    """Return OBSERVED with the addresses of the guest of DOMAIN, if it is ours and runs.

    LIVE is how it runs, if that was read already.
    """
    if observed.state != "running" or observed.metadata is None:
        return observed
    found = addresses(connection, Domain(observed.name, observed.uuid, domain), live=live)
    return msgspec.structs.replace(observed, addresses=found)


def capacities(
    connection: Connection, domain: libvirt.virDomain, observed: ObservedDomain
) -> dict[str, int]:
    """Return the sizes (bytes) of the data disks of DOMAIN, one request for each."""
    stacks = (*observed.defined.stacks, *(observed.live.stacks if observed.live else ()))
    targets = {disk.source: disk.target for disk in stacks}
    sources: dict[str, str] = {}
    for source in disks_of(observed.defined, observed.live):
        if data_of(file_name(source)) is not None:
            sources.setdefault(file_name(source), source)

    def size(source: str) -> int | None:
        # A volume that is gone has no size; whoever needs it will say so.
        with suppress(libvirt.libvirtError):
            return _capacity(connection, domain, targets[source], source)
        return None

    sizes = zip(sources, each(size, sources.values(), far=not connection.local), strict=True)
    return {volume: found for volume, found in sizes if found is not None}


def _has_balloon(domain: libvirt.virDomain) -> bool:
    """Whether a driver for its balloon was heard of from the guest of DOMAIN, which runs."""
    try:
        return bool(domain.memoryStats().get("last_update", 1))
    except libvirt.libvirtError:  # a driver that cannot say that, or one that ended meanwhile
        return True


def _root_gone(domain: libvirt.virDomain, observed: ObservedDomain) -> bool:
    """Whether the root volume that DOMAIN, as OBSERVED, would start from is not there."""
    volume = observed.metadata.generation.volume if observed.metadata else None
    return any(
        file_name(disk.source) == volume and disks.is_gone(domain, disk)
        for disk in observed.defined.stacks
    )


def _capacity(connection: Connection, domain: libvirt.virDomain, target: str, source: str) -> int:
    """Return the size (bytes) of the disk TARGET of DOMAIN, which is on SOURCE."""
    # What names pool and volume is found only when the domain starts.
    named = volumes.at(connection, source) if source.startswith(VOLUME_DISK) else None
    return named.capacity if named else int(domain.blockInfo(target)[0])


def _observed(
    xml: str, live: InspectedDomain | None, state: State, is_there: Callable[[str], bool]
) -> ObservedDomain:
    """Return the domain that XML and LIVE describe; IS_THERE tells whether one of a name is."""
    found = inspect_domain(xml)
    metadata, unreadable, hint, renamed_from = None, None, None, None
    try:
        metadata = read_metadata(found.root, is_there)
    except UnreadableMetadataError as error:
        unreadable, hint = error.message, error.hint
        renamed_from = error.renamed_from if isinstance(error, StrayMetadataError) else None
    except Exception as error:  # noqa: BLE001 -- anybody can write there what nobody thinks of
        unreadable = f"the metadata of domain '{found.name}' cannot be read: {error}"
        hint = f"see 'virsh metadata {words(found.name, NAMESPACE)}'; the domain is left alone"
    return ObservedDomain(
        name=found.name,
        uuid=found.uuid,
        state=state,
        autostart=False,
        persistent=True,
        defined=found.hardware,
        live=None if live is None else live.hardware,
        booted=None if live is None else boot_record.remembered(live.root),
        metadata=metadata,
        unreadable=unreadable,
        hint=hint,
        renamed_from=renamed_from,
    )
