# SPDX-License-Identifier: GPL-3.0-or-later
"""How a hypervisor can share directories with its guests; no libvirt is asked.

The guest's operating system has to know the driver, which is evaluated before anybody
connects.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

# Where QEMU's virtiofsd announces itself to libvirt (QEMU's docs/interop/vhost-user.json).
_ANNOUNCEMENTS = (Path("/etc/qemu/vhost-user"), Path("/usr/share/qemu/vhost-user"))


def sharing_driver(
    uri: str | None, uid: int, announcements: Iterable[Path] = _ANNOUNCEMENTS
) -> Literal["virtiofs", "9p"]:
    """Return what serves at URI, None being libvirt's own choice for user UID.

    Libvirt refuses virtiofs in session mode.  Whether a hypervisor elsewhere
    has virtiofsd is not known before a guest starts: it is taken to have it.
    """
    if uri is None:
        uri = "qemu:///system" if uid == 0 else "qemu:///session"
    parts = urlsplit(uri)
    if parts.path.rstrip("/") == "/session":
        return "9p"
    if parts.netloc or parts.scheme != "qemu":
        return "virtiofs"
    return "virtiofs" if any(_virtiofsd_in(directory) for directory in announcements) else "9p"


def store_access(
    uri: str, uid: int, directory: str | Path = "/gnu/store"
) -> Literal["absent", "writable", "read-only"]:
    """Return how the hypervisor at URI, on this machine and called by UID, has DIRECTORY.

    A hypervisor of the user's own cannot change what is root's, however it is mounted.
    """
    if not os.access(directory, os.R_OK | os.X_OK):
        return "absent"
    own = uid != 0 and urlsplit(uri).path.rstrip("/") == "/session"
    read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    return "read-only" if own or read_only else "writable"


def _virtiofsd_in(directory: Path) -> bool:
    return any("virtiofsd" in file.name for file in directory.glob("*.json"))
