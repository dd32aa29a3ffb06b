# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI firmware keeps of a machine that is off: boot entries, keys, settings.

Libvirt has no request for it.  It is a file on the hypervisor's host, in a directory of libvirt's
own; so that directory is a pool for a moment, which is neither kept nor seen in the next look.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import download, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.refresh import refresh
from pyguixvm.interruption import pause
from pyguixvm.model.sizes import format_size
from pyguixvm.xml.inspection import is_uefi
from pyguixvm.xml.pool import directory_pool_xml
from pyguixvm.xml.text import parse

# Where libvirt's packages keep them.
_SYSTEM = PurePosixPath("/var/lib/libvirt/qemu/nvram")
# No firmware has as much (bytes).
_MOST = 64 * 1024**2
# Others who have that pool for a moment are waited for, so often and so long (seconds).
_TRIES = 50
_POLL_SECONDS = 0.1


def file(connection: Connection, name: str, xml: str) -> str | None:
    """Return in which file the firmware of domain NAME, of XML, keeps its variables, if it does.

    None, too, where that cannot be known: in the home directory of somebody elsewhere.
    """
    domain = parse(xml)
    named = domain.findtext("os/nvram")
    if named or not is_uefi(domain):
        return named or None
    # Until it runs, libvirt does not say what it names itself.
    directory = _SYSTEM
    if urlsplit(connection.uri).path == "/session":
        if not connection.local:
            return None
        settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        directory = PurePosixPath(settings, "libvirt/qemu/nvram")
    return str(directory / f"{name}_VARS.fd")


def held(connection: Connection, path: str) -> bytes | None:
    """Return what the file PATH of firmware's variables holds; None if there is no such file.

    Raises HypervisorError.
    """
    with _volume(connection, path) as found:
        if found is None:
            return None
        pool, handle = found
        volume = volumes.described_volume(pool, handle)
        if volume.physical > _MOST:
            raise HypervisorError(
                f"{path}, for the variables of firmware, has {format_size(volume.physical)}"
            )
        return download.data(connection, volume, 0, 0)


def delete(connection: Connection, path: str) -> None:
    """Delete the file PATH of firmware's variables, if it is there.  Raises HypervisorError."""
    with _volume(connection, path) as found:
        if found is not None:
            found[1].delete(0)


@contextmanager
def _volume(
    connection: Connection, path: str
) -> Iterator[tuple[str, libvirt.virStorageVol] | None]:
    """Yield the file PATH as a volume, with the name of its pool; None if there is none."""
    directory, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
    with (
        explained(f"look at {path}, for the variables of firmware"),
        _pool(connection, directory) as pool,
    ):
        found = None
        if pool is not None:
            with suppress(libvirt.libvirtError):
                found = pool.name(), pool.storageVolLookupByName(name)
        yield found


@contextmanager
def _pool(connection: Connection, directory: str) -> Iterator[libvirt.virStoragePool | None]:
    """Yield a pool of DIRECTORY, somebody's or for the body only; None if that is not there."""
    xml = directory_pool_xml(f"pyguixvm-variables-{secrets.token_hex(8)}", directory)
    made = theirs = None
    tries = 0
    while made is None and theirs is None:
        tries += 1
        try:
            made = connection.handle.storagePoolCreateXML(xml, 0)
        except libvirt.libvirtError as error:
            if error.get_int1() == errno.ENOENT:
                break
            # Somebody has one of that directory, as we do: for a moment, maybe.
            if not is_code(error, libvirt.VIR_ERR_OPERATION_FAILED) or tries > _TRIES:
                raise
            theirs = _theirs(connection, directory)
            if theirs is None:
                pause(_POLL_SECONDS)
    try:
        yield made or theirs
    finally:
        if made is not None:
            made.destroy()


def _theirs(connection: Connection, directory: str) -> libvirt.virStoragePool | None:
    """Return the pool that somebody has of DIRECTORY, as it is now; None if it is gone."""
    with suppress(libvirt.libvirtError):
        pool = connection.handle.storagePoolLookupByTargetPath(directory)
        refresh(pool)
        return pool
    return None
