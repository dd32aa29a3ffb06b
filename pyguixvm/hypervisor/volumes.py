# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage pools and our volumes in them.

A pool is never emptied or removed, and a volume without our prefix is never
touched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TypeVar

import libvirt
import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.refresh import refresh
from pyguixvm.model import volume_names
from pyguixvm.xml.inspection import VOLUME_DISK
from pyguixvm.xml.volume import Described, VolumeDefinition, backing, described, volume_xml

_Answer = TypeVar("_Answer")


class Volume(Described, frozen=True):
    """A volume NAME of POOL."""

    pool: str
    name: str


def create(connection: Connection, pool: str, definition: VolumeDefinition) -> Volume:
    """Create a thin volume; creation is atomic.

    Raises `RequestRefusedError` if there is one of that name.
    """
    made = create_handle(connection, pool, definition)
    with explained(f"look at volume '{definition.name}' in pool '{pool}'"):
        return described_volume(pool, made)


def create_handle(
    connection: Connection, pool: str, definition: VolumeDefinition
) -> libvirt.virStorageVol:
    """Create a volume as `create` does; return libvirt's own object, for this package only."""
    _require_ours(definition.name)
    with explained(f"create volume '{definition.name}' in pool '{pool}'"):
        try:
            return _pool(connection, pool).createXML(volume_xml(definition), 0)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_STORAGE_VOL_EXIST):
                raise
            raise RequestRefusedError(
                f"volume '{definition.name}' exists already in pool '{pool}'"
            ) from error


def lookup(connection: Connection, pool: str, name: str) -> Volume | None:
    """Return volume NAME of POOL, or None if there is no such volume or no such pool."""
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        found = find_handle(connection, pool, name)
        return None if found is None else described_volume(pool, found)


def delete(connection: Connection, pool: str, name: str) -> bool:
    """Delete our volume NAME and its marker from POOL; False if there was none."""
    _require_ours(name)
    deleted = False
    with explained(f"delete volume '{name}' from pool '{pool}'"):
        # The marker goes last: broken off in between, the rest is still known as incomplete.
        # One that went meanwhile, or whose place another took, is not passed over.
        handle = _of_pool(connection, pool, lambda found: found)
        if handle is None:
            return False
        for each in (name, volume_names.marker(name)):
            found = in_pool(handle, each)
            if found is not None:
                found.delete(0)
                deleted = True
    return deleted


def delete_marker(connection: Connection, pool: str, name: str) -> None:
    """Delete the marker beside volume NAME of POOL: it is whole from now on."""
    with explained(f"delete the marker of volume '{name}' from pool '{pool}'"):
        found = find_handle(connection, pool, volume_names.marker(name))
        if found is not None:
            found.delete(0)


def list_ours(connection: Connection, pool: str) -> tuple[Volume, ...]:
    """Return our volumes in POOL by name, markers left out; none if there is no such pool.

    Those are left out, too, whose files somebody removed behind libvirt's back.
    """
    with explained(f"list the volumes of pool '{pool}'"):
        try:
            found = _pool(connection, pool).listAllVolumes()
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
                return ()
            raise
        ours = [
            v
            for v in found
            if volume_names.is_ours(v.name()) and not volume_names.is_marker(v.name())
        ]
        there = (_described_if_there(pool, volume) for volume in ours)
        return tuple(sorted(filter(None, there), key=lambda volume: volume.name))


def names(connection: Connection, pool: str) -> frozenset[str] | None:
    """Return the names of all volumes in POOL; None if it is stopped or there is none."""
    with explained(f"list the volumes of pool '{pool}'"):
        try:
            return names_in(_pool(connection, pool))
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID):
                return None
            raise


def all_names(connection: Connection, pool: str) -> frozenset[str]:
    """Return the names of all volumes in POOL; none if there is no such pool.

    Raises HypervisorError if it is stopped.
    """
    with explained(f"list the volumes of pool '{pool}'"):
        return _names(connection, pool)


def base(connection: Connection, pool: str, name: str) -> str | None:
    """Return the name of the volume of POOL that volume NAME stands on, None if there is none."""
    with explained(f"see what volume '{name}' of pool '{pool}' stands on"):
        found = find_handle(connection, pool, name)
        path = None if found is None else backing(found.XMLDesc(0))
        if path is None:
            return None
        try:
            below = connection.handle.storageVolLookupByPath(path)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL):
                return None  # a store item, or lost
            raise
        return str(below.name())


def incomplete(connection: Connection, pool: str, name: str) -> bool:
    """Whether the making of volume NAME was broken off, or still goes on."""
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        return volume_names.marker(name) in _names(connection, pool)


def is_whole(connection: Connection, pool: str, name: str) -> bool:
    """Whether volume NAME of POOL is there with all its content."""
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        there = _names(connection, pool)
        return name in there and volume_names.marker(name) not in there


def whole(connection: Connection, pool: str, name: str) -> Volume | None:
    """Return volume NAME of POOL if it is there with all its content, None if it is not."""
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        found = {each.name(): each for each in _of_pool(connection, pool, _listed) or ()}
        if name not in found or volume_names.marker(name) in found:
            return None
        return _described_if_there(pool, found[name])


def is_there(connection: Connection, pool: str, name: str) -> bool | None:
    """Whether volume NAME of POOL has a file, whatever that remembers; None if it is not active."""
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        try:
            found = in_pool(_pool(connection, pool), name)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID):
                return None
            raise
        return found is not None and _described_if_there(pool, found) is not None


def refreshed(connection: Connection, pool: str, name: str) -> Volume | None:
    """Return the whole volume NAME of POOL as it is now, or None; of no other pool.

    A pool's memory of what is there, of sizes and formats is as old as its last refresh.
    """
    with explained(f"look for volume '{name}' in pool '{pool}'"):
        _of_pool(connection, pool, refresh)
        return whole(connection, pool, name)


def at(connection: Connection, source: str) -> Volume | None:
    """Return the volume at SOURCE as it is now, or None if no active pool has it.

    SOURCE is a file name, or what a disk is called that names pool and volume.
    """
    pool, _, name = source.removeprefix(VOLUME_DISK).partition("/")
    if source.startswith(VOLUME_DISK):
        return refreshed(connection, pool, name)
    with explained(f"look for the volume at {source}"):
        found = find_handle_at(connection, source)
        if found is None:
            return None
        holder = found.storagePoolLookupByVolume()
        refresh(holder)
        return lookup(connection, holder.name(), found.name())


def find_handle_at(connection: Connection, path: str) -> libvirt.virStorageVol | None:
    """Return libvirt's own object of the volume at PATH, or None; for this package only.

    What others put into a directory, its pool learns only when it is refreshed.
    """
    with suppress(libvirt.libvirtError):
        return connection.handle.storageVolLookupByPath(path)
    with suppress(libvirt.libvirtError):
        directory = str(PurePosixPath(path).parent)
        pool = connection.handle.storagePoolLookupByTargetPath(directory)
        refresh(pool)
        return pool.storageVolLookupByName(PurePosixPath(path).name)
    return None


def grow(connection: Connection, volume: Volume, size: int) -> None:
    """Let VOLUME, a qcow2 image that no guest uses, have SIZE bytes; it must have less."""
    with explained(f"grow volume '{volume.name}' to {size} bytes"):
        handle = find_handle(connection, volume.pool, volume.name)
        if handle is None:
            raise RequestRefusedError(f"volume '{volume.name}' vanished from '{volume.pool}'")
        handle.resize(size)


def find_handle(connection: Connection, pool: str, name: str) -> libvirt.virStorageVol | None:
    """Return libvirt's own object of volume NAME, or None; for this package only."""
    return _of_pool(connection, pool, lambda found: in_pool(found, name))


def _names(connection: Connection, pool: str) -> frozenset[str]:
    """Return the names of all volumes in POOL; none if there is no such pool."""
    return _of_pool(connection, pool, names_in) or frozenset()


def _of_pool(
    connection: Connection, pool: str, ask: Callable[[libvirt.virStoragePool], _Answer]
) -> _Answer | None:
    """Return what ASK does of libvirt's POOL, None if there is no such pool."""
    try:
        return ask(_pool(connection, pool))
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
            return None
        raise


def names_in(pool: libvirt.virStoragePool) -> frozenset[str]:
    """Return the names of all volumes in libvirt's POOL.  Raises libvirtError."""
    # The binding's listVolumes asks how many there are, before.
    return frozenset(volume.name() for volume in _listed(pool))


def _listed(pool: libvirt.virStoragePool) -> list[libvirt.virStorageVol]:
    found: list[libvirt.virStorageVol] = pool.listAllVolumes()
    return found


def in_pool(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
    """Return the volume NAME of libvirt's POOL, None if there is none.  Raises libvirtError."""
    try:
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL):
            return None
        raise


def _pool(connection: Connection, name: str) -> libvirt.virStoragePool:
    return connection.resolved.pool(name)


def _described_if_there(pool: str, volume: libvirt.virStorageVol) -> Volume | None:
    try:
        return described_volume(pool, volume)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL):
            return None
        raise


def described_volume(pool: str, volume: libvirt.virStorageVol) -> Volume:
    """Return VOLUME of POOL as it is now.  Raises libvirtError."""
    # The binding asks libvirtd for info and path each by itself.
    found = described(volume.XMLDesc(0))
    return Volume(**msgspec.structs.asdict(found), pool=pool, name=volume.name())


def _require_ours(name: str) -> None:
    if not volume_names.is_ours(name):
        raise RequestRefusedError(
            f"volume '{name}' is not pyguixvm's (no prefix '{volume_names.PREFIX}'): "
            "it is left alone"
        )
