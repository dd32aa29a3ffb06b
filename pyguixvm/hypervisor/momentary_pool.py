# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of the hypervisor's host that no pool has, by a pool of its directory, for a moment.

Of a directory, libvirt takes one pool at a time.  So whoever needs it shares that which another
one made, and begins anew when that goes.  The first that is done with it destroys it, whoever
made it: what was left by one who was killed goes with the next.  Pools of others stay as they are.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TypeAlias, TypeVar

import libvirt

from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import is_code
from pyguixvm.hypervisor.refresh import is_busy, refresh
from pyguixvm.hypervisor.volumes import in_pool
from pyguixvm.interruption import pause
from pyguixvm.xml.pool import directory_pool_xml, pool_path

_PREFIX = "pyguixvm-variables-"
# For so long (seconds) others who come and go are put up with, and work in the pool is waited for.
_PATIENCE = 30.0
_POLL_SECONDS = 0.1

Result = TypeVar("Result")
# A pool, and whether it is there, or active, for a moment only.
_Found: TypeAlias = tuple[libvirt.virStoragePool, bool]


def with_file(
    connection: Connection,
    path: str,
    use: Callable[[libvirt.virStoragePool, libvirt.virStorageVol], Result],
) -> Result | None:
    """Return what USE makes of the file PATH, a volume of that pool; None if there is no such file.

    USE is called again if the pool goes meanwhile.  Raises libvirtError, and what USE does.
    """
    directory, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
    until = time.monotonic() + _PATIENCE
    while True:
        with _pool(connection, directory, until) as pool:
            if pool is None:
                return None
            try:
                volume = in_pool(pool, name)
                return None if volume is None else use(pool, volume)
            except (libvirt.libvirtError, PyguixvmError):
                # What is said of a pool that went is not so of the file.
                if _is_active(pool) or time.monotonic() >= until:
                    raise
        pause(_POLL_SECONDS)


@contextmanager
def _pool(
    connection: Connection, directory: str, until: float
) -> Iterator[libvirt.virStoragePool | None]:
    """Yield a pool of DIRECTORY, which others may end; None if the directory is not there."""
    found = _to_be_used(connection, directory, until)
    if found is None:
        yield None
        return
    pool, passing = found
    try:
        yield pool
    finally:
        if passing:
            _end(pool)


def _to_be_used(connection: Connection, directory: str, until: float) -> _Found | None:
    """Return a pool of DIRECTORY that is active now; None if the directory is not there."""
    while True:
        try:
            return _made(connection, directory), True
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_SYSTEM_ERROR) and error.get_int1() == errno.ENOENT:
                return None
            # Somebody has one of that directory, as we do: for a moment, maybe.
            if not is_code(error, libvirt.VIR_ERR_OPERATION_FAILED) or time.monotonic() >= until:
                raise
        found = _active(connection, directory) or _started(connection, directory)
        if found is not None:
            return found
        pause(_POLL_SECONDS)


def _made(connection: Connection, directory: str) -> libvirt.virStoragePool:
    xml = directory_pool_xml(f"{_PREFIX}{secrets.token_hex(8)}", directory)
    return connection.handle.storagePoolCreateXML(xml, 0)


def _active(connection: Connection, directory: str) -> _Found | None:
    """Return the pool of DIRECTORY that is active, None if none is.

    It knows of the files that are there now.
    """
    try:
        pool = connection.handle.storagePoolLookupByTargetPath(directory)
        refresh(pool)
        return pool, pool.name().startswith(_PREFIX)
    except libvirt.libvirtError as error:
        if _tells_of_no_pool(error):
            return None
        raise


def _started(connection: Connection, directory: str) -> _Found | None:
    """Start, for a moment, the pool of DIRECTORY that somebody stopped; return it, if there is one.

    As long as it is defined, libvirt takes no other one of that directory.
    """
    stopped = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE
    for pool in connection.handle.listAllStoragePools(stopped):
        try:
            if pool_path(pool.XMLDesc(0)) == directory:
                pool.create(0)
                return pool, True
        except libvirt.libvirtError as error:
            # Somebody was faster.
            if not _tells_of_no_pool(error):
                raise
    return None


def _end(pool: libvirt.virStoragePool) -> None:
    """Have POOL active no more, as soon as nothing is at work in it."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            pool.destroy()
        except libvirt.libvirtError as error:
            if _tells_of_no_pool(error):
                return
            if not is_busy(error) or time.monotonic() >= until:
                raise
        else:
            return
        pause(_POLL_SECONDS)


def _is_active(pool: libvirt.virStoragePool) -> bool:
    try:
        return bool(pool.isActive())
    except libvirt.libvirtError as error:
        if _tells_of_no_pool(error):
            return False
        raise


def _tells_of_no_pool(error: libvirt.libvirtError) -> bool:
    """Whether ERROR says that the pool is not there, or not as it was: active, or stopped."""
    return is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID)
