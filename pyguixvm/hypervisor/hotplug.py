# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a running guest: what virsh's setmem, setvcpus and *-device do with --live."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Domain, Which, exists, inactive_xml, our_domain
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.guest import agent
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.update import (
    disk_target,
    disk_xml,
    interface_xml,
    placed,
    reconnected_interface,
)

# How long (seconds) a guest may take to let go of what it is asked for.
PATIENCE = 20.0
_AGENT_PATIENCE = 3.0
# Between two looks (seconds): most guests follow at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
_KIB = 1024


def set_memory(
    connection: Connection, name: Which, memory: int, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Have the balloon of domain NAME leave MEMORY bytes to the guest; whether it got there.

    A guest without balloon driver, or one that needs its memory, does not.
    """
    domain = our_domain(connection, name)
    kib = -(-memory // _KIB)
    with explained(f"set the memory of domain '{name}'"):
        domain.setMemoryFlags(kib, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return _becomes(
            lambda: inspect_domain(domain.XMLDesc(0)).hardware.memory == kib * _KIB, sleep
        )


def set_vcpus(
    connection: Connection, name: Which, cpu: int, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Plug vCPUs into domain NAME until it has CPU; whether the guest uses them all.

    Linux uses a new one only when told to: by the guest's agent, if there is one.
    """
    domain = our_domain(connection, name)
    with explained(f"set the vCPUs of domain '{name}'"):
        domain.setVcpusFlags(cpu, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if not agent.connected(domain):
            return False

        def all_in_use() -> bool:
            with suppress(libvirt.libvirtError):
                domain.setVcpusFlags(cpu, libvirt.VIR_DOMAIN_VCPU_GUEST)
                return bool(domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_GUEST) == cpu)
            return False

        return _becomes(all_in_use, sleep, _AGENT_PATIENCE)


def attach_interface(connection: Connection, name: Which, mac: str) -> None:
    """Plug the interface that is defined with address MAC into domain NAME."""
    domain = our_domain(connection, name)
    with explained(f"attach interface {mac} to domain '{name}'"):
        defined = _defined_interface(connection, name, mac)
        domain.attachDeviceFlags(placed(defined, domain.XMLDesc(0)), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def update_interface(connection: Connection, name: Which, mac: str) -> None:
    """Connect the interface of domain NAME with address MAC as it is defined."""
    domain = our_domain(connection, name)
    with explained(f"update interface {mac} of domain '{name}'"):
        defined = _defined_interface(connection, name, mac)
        live = interface_xml(domain.XMLDesc(0), mac) or defined
        domain.updateDeviceFlags(
            reconnected_interface(live, defined), libvirt.VIR_DOMAIN_AFFECT_LIVE
        )


def detach_interface(
    connection: Connection, name: Which, mac: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Unplug the interface with address MAC from domain NAME.

    Raises `HypervisorError` if the guest does not let go of it.
    """
    _detach(our_domain(connection, name), interface_xml, mac, f"interface {mac}", sleep)


def attach_disk(connection: Connection, name: Which, source: str) -> None:
    """Plug the disk that is defined at SOURCE, a device or our volume, into domain NAME."""
    domain = our_domain(connection, name)
    with explained(f"attach disk {source} to domain '{name}'"):
        element = disk_xml(inactive_xml(connection, name), source)
        if element is None:
            raise HypervisorError(f"domain '{name}' is not defined with a disk {source}")
        domain.attachDeviceFlags(placed(element, domain.XMLDesc(0)), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def detach_disk(
    connection: Connection, name: Which, source: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Unplug the disk at SOURCE, a device or our volume, from domain NAME.

    Raises `HypervisorError` if the guest does not let go of it.
    """
    domain = our_domain(connection, name)
    _detach(domain, disk_xml, source, f"disk {source}", sleep, first="Unmount it there. ")


def grow_disk(connection: Connection, name: Which, path: str, size: int) -> bool:
    """Let the disk at PATH of the running domain NAME have SIZE bytes.

    False if the domain does not run with that disk, or is not there.
    """
    if not isinstance(name, Domain) and not exists(connection, name):
        return False
    domain = our_domain(connection, name)
    with explained(f"grow disk {path} of domain '{name}'"):
        if not domain.isActive() or disk_target(domain.XMLDesc(0), path) is None:
            return False
        domain.blockResize(path, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        return True


def _defined_interface(connection: Connection, name: Which, mac: str) -> str:
    element = interface_xml(inactive_xml(connection, name), mac)
    if element is None:
        raise HypervisorError(f"domain '{name}' is not defined with an interface {mac}")
    return element


def _detach(  # noqa: PLR0917 -- what, from where, how it is found, and what it is called
    domain: libvirt.virDomain,
    find: Callable[[str, str], str | None],
    key: str,
    what: str,
    sleep: Callable[[float], None],
    first: str = "",
) -> None:
    """Unplug WHAT, which FIND finds by its KEY in the XML of DOMAIN, if that has it.

    Raises HypervisorError, with what is to be done FIRST, if the guest does not let go of it.
    """
    name = domain.name()
    with explained(f"detach {what} from domain '{name}'"):
        element = find(domain.XMLDesc(0), key)
        if element is None:
            return

        def gone() -> bool:
            return find(domain.XMLDesc(0), key) is None

        try:
            domain.detachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError:
            # A guest that was asked before may let go of it in this very moment.
            if not gone():
                raise
        if not _becomes(gone, sleep):
            raise HypervisorError(
                f"the guest of '{name}' does not let go of {what}",
                hint=f"{first}A guest that still boots cannot: deploy again when it is up.",
            )


def _becomes(
    true: Callable[[], bool], sleep: Callable[[float], None], patience: float = PATIENCE
) -> bool:
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    # To look may take long itself.
    while not true():
        if time.monotonic() >= deadline:
            return False
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True
