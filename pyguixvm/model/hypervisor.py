# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hypervisor is which, however it is reached."""

from __future__ import annotations

import msgspec


class Hypervisor(msgspec.Struct, frozen=True, rename="kebab"):
    """What tells a hypervisor from all others; no part of it is the URI that leads there.

    HOST_UUID is that of the host's capabilities, None for drivers that have none, and
    HOST_NAME what it calls itself: some vendors give one UUID to all their boards, and a
    libvirtd that may not read the board's makes one up each time it starts.
    DRIVER is libvirt's name for its kind, "QEMU" for example, and INSTANCE the path of
    its URIs: "/system", or "/session", which each user of the host but root has one of;
    then OWNER is the user's name, else None.
    """

    host_uuid: str | None
    host_name: str
    driver: str
    instance: str
    owner: str | None = None
