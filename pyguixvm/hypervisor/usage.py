# SPDX-License-Identifier: GPL-3.0-or-later
"""What uses which volume, as libvirt knows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from posixpath import normpath

import libvirt

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.model.usage import Address, Usage
from pyguixvm.xml.inspection import named_files, named_volumes
from pyguixvm.xml.volume import backing


def observe_usage(connection: Connection, below: Callable[[str], str | None]) -> Usage:
    """Return what every domain and every volume uses: defined or running, and by backing chains.

    BELOW is asked what a file stands on that no active pool has, and that a domain uses.
    """
    one_name = os.path.realpath if connection.local else normpath
    with explained("see what uses which volumes"):
        volumes: dict[Address, str] = {}
        chain: dict[str, str] = {}
        for address, file, under in _volumes(connection):
            volumes[address] = one_name(file)
            if under is not None:
                chain[one_name(file)] = one_name(under)
        domains: dict[str, frozenset[str]] = {}
        snapshots: dict[tuple[str, str], frozenset[str]] = {}
        for name, snapshot, xml in definitions(connection):
            named = frozenset(one_name(file) for file in named_files(xml))
            named |= {volumes[each] for each in named_volumes(xml) if each in volumes}
            if snapshot is None:
                domains[name] = domains.get(name, frozenset()) | named
            else:
                snapshots[name, snapshot] = named
    files = [file for named in (*domains.values(), *snapshots.values()) for file in named]
    _complete(chain, files, set(volumes.values()), lambda file: _named(below(file), one_name))
    return Usage(domains=domains, volumes=volumes, backing=chain, snapshots=snapshots)


def is_used(connection: Connection, path: str) -> bool:
    """Whether a domain, whoever it belongs to, is defined, runs, or has a snapshot with file PATH.

    What a disk stands on counts, as far as libvirt knows it.
    """
    with explained(f"see which domains use {path}"):
        return any(path in named_files(xml) for _, _, xml in definitions(connection))


def _named(file: str | None, one_name: Callable[[str], str]) -> str | None:
    return None if file is None else one_name(file)


def _complete(
    chain: dict[str, str],
    files: list[str],
    known: set[str],
    below: Callable[[str], str | None],
) -> None:
    """Add to CHAIN what FILES, which domains use, stand on, if they are not KNOWN to libvirt."""
    files = list(files)
    seen = set(known)
    while files:
        file = files.pop()
        if file in seen:
            continue
        seen.add(file)
        under = below(file)
        if under is not None:
            chain[file] = under
            files.append(under)


def _volumes(connection: Connection) -> Iterator[tuple[Address, str, str | None]]:
    """Yield address, file and backing file of each volume; what vanishes meanwhile is left out."""
    flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
    for pool in connection.handle.listAllStoragePools(flags):
        # Somebody may have made an overlay without libvirt.  A pool refuses while it works.
        with suppress(libvirt.libvirtError):
            pool.refresh(0)
        for volume in _listed(pool):
            try:
                yield (pool.name(), volume.name()), volume.path(), backing(volume.XMLDesc(0))
            except libvirt.libvirtError as error:
                if not is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL):
                    raise


def _listed(pool: libvirt.virStoragePool) -> list[libvirt.virStorageVol]:
    """Return the volumes of POOL; none if somebody stopped or removed it meanwhile."""
    try:
        found: list[libvirt.virStorageVol] = pool.listAllVolumes()
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID):
            return []
        raise
    return found


def definitions(connection: Connection) -> Iterator[tuple[str, str | None, str]]:
    """Yield the name of each domain with its XML: defined, as it runs, and as snapshots have it.

    In between is the name of the snapshot.
    """
    for domain in connection.handle.listAllDomains(0):
        try:
            yield domain.name(), None, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            if domain.isActive():
                yield domain.name(), None, domain.XMLDesc(0)
            for snapshot in _snapshots(domain):
                yield domain.name(), snapshot.getName(), snapshot.getXMLDesc(0)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                raise


def _snapshots(domain: libvirt.virDomain) -> list[libvirt.virDomainSnapshot]:
    try:
        found: list[libvirt.virDomainSnapshot] = domain.listAllSnapshots(0)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_SUPPORT):
            return []
        raise
    return found
