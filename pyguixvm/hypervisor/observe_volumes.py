# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of our volumes, in one request for each pool and more where sizes are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt

from pyguixvm.hypervisor import pools, volumes
from pyguixvm.hypervisor.at_once import each
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.model.observation import StoredVolume
from pyguixvm.model.volume_names import is_marker, is_ours, marker


def whole_volumes(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return the names of our volumes in each active pool, without those half sent."""
    with explained("list the volumes"):
        flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        there = connection.handle.listAllStoragePools(flags)
        found = each(_whole_in, there, far=not connection.local)
    return {
        pool.name(): names for pool, names in zip(there, found, strict=True) if names is not None
    }


def stored(connection: Connection) -> Iterator[StoredVolume]:
    """Yield our volumes in the active pools, those half made among them."""
    for pool in pools.active(connection):
        for volume in volumes.list_ours(connection, pool):
            yield StoredVolume(
                pool=pool,
                name=volume.name,
                allocation=volume.allocation,
                whole=not volumes.incomplete(connection, pool, volume.name),
                base=volumes.base(connection, pool, volume.name),
            )


def _whole_in(pool: libvirt.virStoragePool) -> tuple[str, ...] | None:
    """Return those of POOL, None if it was stopped, or removed, meanwhile.  Raises libvirtError."""
    try:
        names = set(filter(is_ours, volumes.names_in(pool)))
    except libvirt.libvirtError as error:
        gone = is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL)
        stopped = is_code(error, libvirt.VIR_ERR_OPERATION_INVALID)
        if not gone and not (stopped and not _is_active(pool)):
            raise
        return None
    return tuple(sorted(n for n in names if not is_marker(n) and marker(n) not in names))


def _is_active(pool: libvirt.virStoragePool) -> bool:
    """Whether POOL is active, and still there."""
    try:
        return bool(pool.isActive())
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
            return False
        raise
