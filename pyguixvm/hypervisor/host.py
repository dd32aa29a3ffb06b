# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine of a hypervisor has for guests, as far as the hypervisor can say it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import libvirt

from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.model.observation import Host
from pyguixvm.xml.capabilities import host_cpu, maximum_vcpus, read_host_uuid
from pyguixvm.xml.domain import EMULATOR_MACHINE

_Answer = TypeVar("_Answer")

_MIB = 1024**2


def host_of(connection: Connection) -> Host:
    """Return what the machine of CONNECTION's hypervisor has."""
    handle = connection.handle

    def processors() -> int | None:
        return maximum_vcpus(handle.getDomainCapabilities(None, None, EMULATOR_MACHINE, None))

    def networks() -> tuple[str, ...]:
        return tuple(sorted(network.name() for network in handle.listAllNetworks()))

    def pools() -> tuple[str, ...]:
        return tuple(sorted(pool.name() for pool in handle.listAllStoragePools()))

    far = not connection.local
    most, connected, stored = (
        begun(partial(_told, processors), far=far),
        begun(partial(_told, networks), far=far),
        begun(partial(_told, pools), far=far),
    )
    memory = _told(lambda: int(handle.getInfo()[1]) * _MIB)
    return Host(memory, most(), connected(), stored())


def seen_by_guests(connection: Connection, domain_type: str) -> tuple[str | None, ...]:
    """Return what tells hosts apart for guests of DOMAIN_TYPE: which one it is, CPU and QEMU.

    What their firmware is called is in it, and not what that holds.
    """
    handle = connection.handle
    with explained("ask what the hypervisor's host is"):
        offered = connection.offered.answer()
        by = handle.getDomainCapabilities(None, None, EMULATOR_MACHINE, domain_type)
        versions = f"{handle.getVersion()} {handle.getLibVersion()}"
    return read_host_uuid(offered), host_cpu(offered), by, versions


def _told(ask: Callable[[], _Answer]) -> _Answer | None:
    """Return what ASK returns, None if the hypervisor cannot say that."""
    with suppress(libvirt.libvirtError):
        return ask()
    return None
