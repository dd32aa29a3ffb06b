# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's networks: used as they are, started where they are not."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.xml.inspection import network_definition

# Nothing is to be done to such a network.
_READY = (
    libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE
    | libvirt.VIR_CONNECT_LIST_NETWORKS_PERSISTENT
    | libvirt.VIR_CONNECT_LIST_NETWORKS_AUTOSTART
)


def ready_networks(connection: Connection) -> frozenset[str]:
    """Return the names of the networks that are as `ensure_network` has them."""
    with explained("list the networks"):
        found = connection.handle.listAllNetworks(_READY)
        connection.resolved.keep_networks(found)
        return frozenset(each.name() for each in found)


def ensure_networks(
    connection: Connection,
    machine: VirtualMachine,
    ready: Callable[[], frozenset[str]] | None = None,
) -> None:
    """Have the networks of MACHINE active, as `ensure_network` does, but those that are READY."""
    names = {interface.network for interface in machine.domain.networking}
    if names:
        there = ready_networks(connection) if ready is None else ready()
        for name in sorted(names - there):
            ensure_network(connection, name)


def definitions(connection: Connection, machine: VirtualMachine) -> tuple[str, ...]:
    """Return what the networks of MACHINE are, as XML, in the order of their names.

    Raises HypervisorError if there is none of a name.
    """
    names = {interface.network for interface in machine.domain.networking}
    found = [_find(connection, name) for name in sorted(names)]
    with explained("look at the networks"):
        return tuple(network_definition(network.XMLDesc(0)) for network in found)


def ensure_network(connection: Connection, name: str) -> bool:
    """Have network NAME active, now and after a reboot; True if it had to be started.

    Raises `HypervisorError` if there is none of that name: a network is the
    site's, and is not made up.
    """
    network = _find(connection, name)
    with explained(f"start network '{name}'"):
        if not network.autostart() and network.isPersistent():
            network.setAutostart(1)
        if network.isActive():
            return False
        try:
            network.create()
        except libvirt.libvirtError as error:
            # Somebody was faster.
            if not (is_code(error, libvirt.VIR_ERR_OPERATION_INVALID) and network.isActive()):
                raise
            return False
        return True


def _find(connection: Connection, name: str) -> libvirt.virNetwork:
    with explained(f"look for network '{name}'"):
        try:
            return connection.resolved.network(name)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_NO_NETWORK):
                raise
        existing = sorted(network.name() for network in connection.handle.listAllNetworks())
    there_are = "there are: " + ", ".join(existing) if existing else "there is none at all"
    raise HypervisorError(
        f"network '{name}' does not exist on {connection.uri}; {there_are}",
        hint="declare one of those, or define it with "
        f"'virsh -c {quote(connection.uri)} net-define'",
    )
