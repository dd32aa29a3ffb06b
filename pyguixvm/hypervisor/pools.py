# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage pools: found, started, made where missing; never emptied, never removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from shlex import quote
from urllib.parse import urlsplit

import libvirt
import msgspec

from pyguixvm.advice import words
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explain, explained, is_code
from pyguixvm.model.sizes import format_size
from pyguixvm.xml.pool import directory_pool_xml, pool_path, pool_type

# How often to look whether somebody else starts a pool.
_TRIES = 10
_POLL_SECONDS = 0.1
# In them, a volume is a file, which qcow2 takes.
_FILE_TYPES = ("dir", "fs", "netfs")
# Nothing is to be done to such a pool.
_READY = (
    libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_DIR
    | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_FS
    | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_NETFS
    | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
    | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT
    | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART
)
# Where libvirt's packages keep the images of the system's libvirtd.
_SYSTEM_IMAGES = PurePosixPath("/var/lib/libvirt/images")


class Pool(msgspec.Struct, frozen=True):
    """An active pool; PATH is its directory."""

    name: str
    path: str


def find_pool(connection: Connection, name: str) -> Pool | None:
    """Return the active pool NAME as it is, or None; nothing is started."""
    with explained(f"look for pool '{name}'"):
        found = _lookup(connection, name)
        return None if found is None or not found.isActive() else _described(found)


def ensure_pool(connection: Connection, name: str) -> None:
    """Have pool NAME active, now and after a reboot.

    One that does not exist is made: a directory under
    /var/lib/libvirt/images, or under the user's own data directory for a
    session's libvirtd.  One that exists is never built: its directory may be missing
    because a disk is not mounted.

    Raises RequestRefusedError if it is of no use, HypervisorError if it cannot be started.
    """
    with explained(f"prepare pool '{name}'"):
        if _is_ready(connection, name):
            return
        pool = _lookup(connection, name)
        if pool is None:
            pool = _define(connection, name)
            _build(pool)
        _require_usable(connection, pool)
        if not pool.isActive():
            _start(connection, pool)
        if pool.isPersistent() and not pool.autostart():
            pool.setAutostart(1)


def require_usable(connection: Connection, name: str) -> None:
    """Raise RequestRefusedError if there is a pool NAME that cannot be used; nothing is done."""
    with explained(f"look at pool '{name}'"):
        if not _is_ready(connection, name):
            pool = _lookup(connection, name)
            if pool is not None:
                _require_usable(connection, pool)


def is_ready(connection: Connection, name: str) -> bool:
    """Whether pool NAME is as `ensure_pool` has it.  Raises HypervisorError."""
    with explained(f"look for pool '{name}'"):
        return _is_ready(connection, name)


def _is_ready(connection: Connection, name: str) -> bool:
    found = connection.handle.listAllStoragePools(_READY)
    connection.resolved.keep_pools(found)
    return any(pool.name() == name for pool in found)


def _require_usable(connection: Connection, pool: libvirt.virStoragePool) -> None:
    """Raise RequestRefusedError unless volumes of POOL are files, in a directory that is there.

    Whether that is, is seen of a pool of this machine's that has to be started.
    """
    name, xml = pool.name(), pool.XMLDesc(0)
    kind, path = pool_type(xml), pool_path(xml)
    if kind not in _FILE_TYPES:
        raise RequestRefusedError(
            f"pool '{name}' is of type '{kind}', and machines have files for disks",
            hint=f"Nothing was done to it. Declare a pool of type {', '.join(_FILE_TYPES[:-1])} or "
            f"{_FILE_TYPES[-1]}.",
        )
    missing = kind == "dir" and connection.local and path and not os.path.isdir(path)  # noqa: PTH112
    if missing and not pool.isActive():
        raise RequestRefusedError(
            f"the directory of pool '{name}', {path}, is not there",
            hint=_unmounted(connection, name, path),
        )


def _unmounted(connection: Connection, name: str, path: str | None) -> str:
    virsh = f"virsh -c {quote(connection.uri)}"
    if not path:
        return f"See '{virsh} pool-dumpxml {words(name)}'"
    return (
        f"It was defined before, and nothing is made in its place. Is what {path} lies "
        f"on mounted? If its directory is to be made: {virsh} pool-build {words(name)}"
    )


def ensure_started(connection: Connection, name: str) -> None:
    """Start pool NAME if there is one and somebody stopped it; nothing is made.

    Raises HypervisorError if it cannot be started.
    """
    with explained(f"start pool '{name}'"):
        pool = _lookup(connection, name)
        if pool is not None and not pool.isActive():
            _start(connection, pool)


def free_space(connection: Connection, name: str) -> int:
    """Return the bytes that are free where pool NAME keeps its volumes."""
    with explained(f"measure the free space of pool '{name}'"):
        pool = connection.resolved.pool(name)
        with suppress(libvirt.libvirtError):  # it refuses while a volume is being written
            pool.refresh(0)
        return int(pool.info()[3])


def require_space(
    connection: Connection,
    name: str,
    needed: int,
    what: str,
    before: Callable[[], int] = lambda: 0,
) -> None:
    """Raise `HypervisorError` unless NEEDED bytes for WHAT are free in pool NAME.

    BEFORE tells what was free a moment ago: it is measured again if that is not enough.
    """
    if before() >= needed:
        return
    available = free_space(connection, name)
    if available < needed:
        raise HypervisorError(
            f"pool '{name}' has {format_size(available)} free ({available} bytes),"
            f" {what} needs {format_size(needed)} ({needed} bytes)",
            hint="free some space there, or declare another pool",
        )


def file_system(connection: Connection, name: str) -> int:
    """Return by what the file system of pool NAME is told from others: its size (bytes).

    Libvirt says no more of it; others may be as large, which `require_space_together` sees.
    """
    with explained(f"measure pool '{name}'"):
        return int(connection.resolved.pool(name).info()[1])


def require_space_together(
    connection: Connection, needed: Mapping[str, int], beside: int, what: str
) -> None:
    """Raise `HypervisorError` unless the bytes NEEDED of each pool are free for WHAT.

    All these are of one `file_system`, and BESIDE as much is free there.
    """
    if len(needed) == 1 or not _is_one(connection, tuple(needed)):
        for name, size in needed.items():
            require_space(connection, name, size + beside, what)
        return
    names = " and ".join(f"'{name}'" for name in needed)
    available = min(free_space(connection, name) for name in needed)
    total = sum(needed.values()) + beside
    if available < total:
        raise HypervisorError(
            f"the pools {names} are on one file system, which has {format_size(available)} free "
            f"({available} bytes), {what} needs {format_size(total)} ({total} bytes)",
            hint="free some space there, or declare another pool",
        )


def _is_one(connection: Connection, names: Sequence[str]) -> bool:
    """Whether as much is free in each of the pools NAMES: they are on one file system."""
    free = [free_space(connection, name) for name in (*names, names[0])]
    # Somebody may be writing there at this moment.
    low, high = sorted((free[0], free[-1]))
    return all(low <= each <= high for each in free)


def _lookup(connection: Connection, name: str) -> libvirt.virStoragePool | None:
    try:
        return connection.resolved.pool(name)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
            return None
        raise


def _define(connection: Connection, name: str) -> libvirt.virStoragePool:
    if "/" in name or name in (".", ".."):
        raise HypervisorError(
            f"pool '{name}' does not exist, and a directory cannot have that name",
            hint="declare a pool whose name is a file name",
        )
    path = default_directory(connection, name)
    return connection.handle.storagePoolDefineXML(directory_pool_xml(name, path), 0)


def default_directory(connection: Connection, name: str) -> str:
    """Return the directory that pool NAME gets if it has to be made."""
    root = _images(connection)
    return str(root if name == "default" else root / name)


def _images(connection: Connection) -> PurePosixPath:
    """Return the directory for new pools, as the hypervisor's host sees it."""
    if urlsplit(connection.uri).path != "/session":
        return _SYSTEM_IMAGES
    if not connection.local:
        raise HypervisorError(
            f"the home directory on the other side of {connection.uri} is not known",
            hint=f"define the pool there with 'virsh -c {quote(connection.uri)} pool-define-as'",
        )
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return PurePosixPath(data) / "libvirt" / "images"


def _build(pool: libvirt.virStoragePool) -> None:
    """Start POOL, just defined; its directory is made if it is missing, else its mode would change.

    One that cannot be made is not kept: it would stand for one of somebody else's.
    """
    try:
        with suppress(libvirt.libvirtError):
            pool.create(0)
            return
        if not pool.isActive():  # or somebody was faster
            pool.build(0)
            pool.create(0)
    except libvirt.libvirtError:
        with suppress(libvirt.libvirtError):
            pool.undefine()
        raise


def _start(connection: Connection, pool: libvirt.virStoragePool) -> None:
    """Start POOL, which was there before."""
    try:
        pool.create(0)
    except libvirt.libvirtError as error:
        # Somebody may be faster, or may be about to build what he has just defined.
        for _ in range(_TRIES):
            if pool.isActive():
                return
            time.sleep(_POLL_SECONDS)
        name, path = pool.name(), pool_path(pool.XMLDesc(0))
        failure = explain(error, f"start pool '{name}'")
        raise HypervisorError(failure.message, hint=_unmounted(connection, name, path)) from error


def _described(pool: libvirt.virStoragePool) -> Pool:
    return Pool(name=pool.name(), path=pool_path(pool.XMLDesc(0)) or "")


def active(connection: Connection) -> tuple[str, ...]:
    """Return the names of the pools that are active."""
    with explained("list the pools"):
        flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        return tuple(sorted(pool.name() for pool in connection.handle.listAllStoragePools(flags)))
