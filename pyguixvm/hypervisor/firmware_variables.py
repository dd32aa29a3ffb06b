# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI firmware keeps of a machine that is off: boot entries, keys, settings.

Libvirt has no request for it.  It is a file on the hypervisor's host, in a directory of libvirt's
own; so that directory is a pool for a moment (`momentary_pool`).
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import download, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.momentary_pool import with_file
from pyguixvm.hypervisor.usage import definitions
from pyguixvm.model.sizes import format_size
from pyguixvm.xml.inspection import is_uefi, variables_file
from pyguixvm.xml.text import parse

# Where libvirt's packages keep them.
_SYSTEM = PurePosixPath("/var/lib/libvirt/qemu/nvram")
# No firmware has as much (bytes).
_MOST = 64 * 1024**2


def file(connection: Connection, name: str, xml: str) -> str | None:
    """Return in which file the firmware of domain NAME, of XML, keeps its variables, if it does.

    None, too, where that cannot be known: in the home directory of somebody elsewhere.
    """
    domain = parse(xml)
    named = variables_file(domain)
    if named or not is_uefi(domain):
        return named
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

    Raises HypervisorError where that cannot be told.
    """

    def read(pool: libvirt.virStoragePool, handle: libvirt.virStorageVol) -> bytes:
        volume = volumes.described_volume(pool.name(), handle)
        if volume.physical > _MOST:
            raise HypervisorError(
                f"{path}, for the variables of firmware, has {format_size(volume.physical)}"
            )
        return download.data(connection, volume, 0, 0)

    with explained(f"look at {path}, for the variables of firmware"):
        return with_file(connection, path, read)


def delete(connection: Connection, path: str) -> None:
    """Delete the file PATH of firmware's variables, if it is there.  Raises HypervisorError."""
    with explained(f"delete {path}, for the variables of firmware"):
        with_file(connection, path, lambda _, volume: volume.delete(0))


def users(connection: Connection, path: str) -> tuple[str, ...]:
    """Return the domains whose firmware keeps its variables in the file PATH, as their XML says.

    Raises HypervisorError.
    """
    with explained(f"see whose firmware keeps its variables in {path}"):
        found = [
            name
            for name, _snapshot, xml in definitions(connection)
            for os in parse(xml).iter("domain", "inactiveDomain")
            if variables_file(os) == path
        ]
    return tuple(dict.fromkeys(found))
