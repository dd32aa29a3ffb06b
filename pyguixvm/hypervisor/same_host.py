# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a line that was cut, and is made again, leads to the host that it led to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.xml.capabilities import read_host_uuid


class AnotherHostError(HypervisorError):
    """What is at a hypervisor's address now is another one."""


@dataclass
class SameHost:
    """What the host at URI calls itself; its NAME is None where it did not say.

    CAPABILITIES are those that were read of it, None as long as nobody wanted them.
    """

    uri: str
    name: str | None
    capabilities: Callable[[], str | None] = field(default=lambda: None)

    def require(self, connection: libvirt.virConnect) -> None:
        """Raise AnotherHostError if CONNECTION leads to another host; raises libvirtError.

        A libvirtd that cannot read the UUID of its board makes one up each time it starts: of
        one name, only those are told apart that have one of a board.
        """
        if self.name is None:
            return
        name, xml = connection.getHostname(), self.capabilities()
        before = None if xml is None else read_host_uuid(xml)
        now = None if before is None else read_host_uuid(connection.getCapabilities())
        if name != self.name or (now != before and _is_boards(connection, now)):
            raise AnotherHostError(
                f"{self.uri} leads to {_told(name, now)}, and led to {_told(self.name, before)} "
                "before: another host has that address now",
                hint="Nothing was done there. Name the host by an address that is its alone; what "
                "was begun on the first one goes on with the next run that reaches it.",
            )


def _told(name: str, uuid: str | None) -> str:
    return name if uuid is None else f"{name} ({uuid})"


def _is_boards(connection: libvirt.virConnect, uuid: str | None) -> bool:
    """Whether UUID is that of the board of CONNECTION's host."""
    with suppress(libvirt.libvirtError):
        return uuid is not None and uuid.lower() in connection.getSysinfo(0).lower()
    return False
