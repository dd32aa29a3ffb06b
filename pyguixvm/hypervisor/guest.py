# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen of a guest from outside: addresses, agent, console, ports."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from pyguixvm.errors import HypervisorError, PyguixvmError
from pyguixvm.hypervisor import agent, console, dhcp, domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.console import ConsoleText
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.states import domain_state
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import State
from pyguixvm.xml.inspection import gives_leases, has_agent, network_interfaces

_CONNECT_SECONDS = 1.0
_AGENT = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
_ARP = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP
_DISCARD_PORT = 9
# The kind that both Guile-SSH and OpenSSH prefer.
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
_HERD = "/run/current-system/profile/bin/herd"
_GROWTH_SECONDS = 30.0
_POLL_SECONDS = 0.1


class GuestEvidence:
    """Evidence about the guest of one domain, none of it older than its start.

    LEASES (expiry by MAC and IP address) and NEIGHBOURS (IP addresses) are
    what was known before the start.
    """

    def __init__(
        self,
        connection: Connection,
        machine: VirtualMachine,
        text: ConsoleText,
        leases: dict[dhcp.Lease, int],
        neighbours: frozenset[str],
    ) -> None:
        """Remember what was there; nothing is asked yet."""
        self._connection = connection
        self._machine = machine
        self._text = text
        self._old_leases = leases
        self._old_neighbours = neighbours
        self._macs = frozenset(i.mac_address.lower() for i in machine.domain.networking)

    def state(self) -> State:
        """Return the domain's state; one that vanished is shut off."""
        with explained(f"read the state of domain '{self._machine.name}'"):
            if not domains.exists(self._connection, self._machine.name):
                return "shut off"
            return domain_state(self._domain())

    def addresses(self) -> tuple[str, ...]:
        """Return the guest's addresses at the declared interfaces, IPv4 first."""
        found = [
            address
            for (mac, address), expiry in dhcp.leases(
                self._connection, _networks(self._machine)
            ).items()
            if mac in self._macs and expiry > self._old_leases.get((mac, address), -1)
        ]
        domain = self._domain()
        if _agent_connected(domain):
            found += _interface_addresses(domain, _AGENT, self._macs)
        found += self._new_neighbours(domain)
        return _useful(found)

    def sees_addresses(self) -> bool:
        """Whether an address would be seen even of a guest without agent."""
        networks = {i.network for i in self._machine.domain.networking}
        with suppress(libvirt.libvirtError):
            return any(
                gives_leases(self._connection.handle.networkLookupByName(name).XMLDesc(0))
                for name in networks
            )
        return False

    def agent_answers(self) -> bool:
        """Whether the QEMU guest agent answers a ping."""
        domain = self._domain()
        if not _agent_connected(domain):
            return False
        try:
            agent.ask(domain, "guest-ping")
        except libvirt.libvirtError:
            return False
        return True

    def console_lines(self) -> tuple[str, ...]:
        """Return what the guest wrote to its serial console since it was watched."""
        return self._text.lines()

    def reaches_guest(self) -> bool:
        """Whether the guest's ports can be expected to be reachable from here."""
        return self._connection.local

    def connect(self, address: str, port: int) -> bool:
        """Whether ADDRESS accepts a TCP connection to PORT from here."""
        try:
            with socket.create_connection((address, port), timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False

    def _domain(self) -> libvirt.virDomain:
        with explained(f"look at domain '{self._machine.name}'"):
            return self._connection.handle.lookupByName(self._machine.name)

    def _new_neighbours(self, domain: libvirt.virDomain) -> list[str]:
        """Return addresses from the host's ARP table that the guest has answered for since.

        The kernel keeps entries of guests that are gone.  A packet makes it
        ask again; only while it waits for the answer it shows none.
        """
        current = _interface_addresses(domain, _ARP, self._macs)
        self._old_neighbours &= frozenset(current)
        if self._connection.local:
            for address in self._old_neighbours:
                _nudge(address)
        return [address for address in current if address not in self._old_neighbours]


@contextmanager
def boot(
    connection: Connection,
    machine: VirtualMachine,
    start_paused: Callable[[Connection, str], None] | None = None,
) -> Iterator[GuestEvidence]:
    """Start MACHINE's domain, and watch its guest from its first instruction on.

    START_PAUSED starts it, where the domain is not defined.
    """
    leases = dhcp.leases(connection, _networks(machine))
    with ExitStack() as consoles:
        with _never_left_paused(connection, machine.name):
            (start_paused or domains.start_paused)(connection, machine.name)
            dhcp.remember(connection, machine, leases)
            text = consoles.enter_context(console.record(connection, machine.name))
            # libvirt matches ARP entries with an active domain's interfaces only.
            neighbours = _neighbours(connection, machine)
            domains.resume(connection, machine.name)
        yield GuestEvidence(connection, machine, text, leases, neighbours)


@contextmanager
def _never_left_paused(connection: Connection, name: str) -> Iterator[None]:
    """Power domain NAME off again if the body fails, or is interrupted, while it is paused.

    A paused domain counts as paused by a person, and would be left alone for
    ever; one that was active before is left as it was.
    """
    was_active = domains.exists(connection, name) and domains.state(connection, name) not in {
        "shut off",
        "crashed",
    }
    try:
        yield
    except BaseException:
        if not was_active:
            with suppress(PyguixvmError):
                if domains.state(connection, name) == "paused":
                    domains.destroy(connection, name)
        raise


@contextmanager
def watch(connection: Connection, machine: VirtualMachine) -> Iterator[GuestEvidence]:
    """Watch the guest of MACHINE's domain, which runs already.

    Leases count that are newer than its start; each newest one where that is not known.
    """
    leases = dhcp.leases(connection, _networks(machine))
    with explained(f"look at domain '{machine.name}'"):
        live = connection.handle.lookupByName(machine.name).XMLDesc(0)
    outdated = dhcp.outdated(leases, dhcp.remembered(live))
    # Of addresses of before, the host may know the way to nobody.
    neighbours = frozenset(address for _, address in outdated)
    with ExitStack() as consoles:
        text = ConsoleText()
        # What it said is gone anyway; somebody else may be listening.
        with suppress(HypervisorError):
            text = consoles.enter_context(console.record(connection, machine.name))
        yield GuestEvidence(connection, machine, text, outdated, neighbours)


def addresses(connection: Connection, name: str) -> tuple[str, ...]:
    """Return what is known of the addresses of the active domain NAME, by the best source."""
    domain = domains.our_domain(connection, name)
    with suppress(libvirt.libvirtError):
        live = domain.XMLDesc(0)
        interfaces = network_interfaces(live)
        macs = frozenset(interface.mac_address for interface in interfaces)
        if has_agent(live):
            # Not those of bridges in the guest, which may be addresses of this host, too.
            found = _useful(_interface_addresses(domain, _AGENT, macs))
            if found:
                return found
        leases = dhcp.leases(connection, frozenset(interface.network for interface in interfaces))
        outdated = dhcp.outdated(leases, dhcp.remembered(live))
        current = [address for mac, address in leases.keys() - outdated.keys() if mac in macs]
        if current:
            return _useful(current)
        gone = {address for _, address in outdated}
        return _useful([a for a in _interface_addresses(domain, _ARP) if a not in gone])
    return ()


def ssh_host_key(connection: Connection, name: str) -> str | None:
    """Return the public ssh host key of the guest of NAME, as its agent reads it there.

    That way is as safe as the hypervisor is, and nobody has to trust a key that is
    seen for the first time.  None if the agent does not tell.
    """
    domain = domains.our_domain(connection, name)
    with suppress(libvirt.libvirtError):
        if _agent_connected(domain):
            return agent.read_file(domain, _HOST_KEY).decode().strip() or None
    return None


def grow_file_systems(
    connection: Connection, name: str, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Have the guest of NAME grow the file systems of its data disks; whether it did.

    It takes a guest agent that may run programs, and the service of
    guix/pyguixvm/system/guest.scm.
    """
    domain = domains.our_domain(connection, name)
    try:
        if not has_agent(domain.XMLDesc(0)):
            return False
        started = agent.fields(domain, "guest-exec", path=_HERD, arg=["start", "grow-data-disks"])
        for _ in range(int(_GROWTH_SECONDS / _POLL_SECONDS)):
            status = agent.fields(domain, "guest-exec-status", pid=started["pid"])
            if status["exited"]:
                return bool(status.get("exitcode") == 0)
            sleep(_POLL_SECONDS)
    except libvirt.libvirtError:
        pass
    return False


def _networks(machine: VirtualMachine) -> frozenset[str]:
    return frozenset(interface.network for interface in machine.domain.networking)


def _neighbours(connection: Connection, machine: VirtualMachine) -> frozenset[str]:
    with explained(f"look at domain '{machine.name}'"):
        domain = connection.handle.lookupByName(machine.name)
    return frozenset(_interface_addresses(domain, _ARP))


def _interface_addresses(
    domain: libvirt.virDomain, source: int, macs: frozenset[str] | None = None
) -> list[str]:
    """Return the addresses that SOURCE knows for DOMAIN's interfaces, or those with MACS."""
    try:
        interfaces = domain.interfaceAddresses(source) or {}
    except libvirt.libvirtError:  # no such source here, or no agent any more
        return []
    return [
        address["addr"]
        for interface in interfaces.values()
        if macs is None or (interface["hwaddr"] or "").lower() in macs
        for address in interface["addrs"] or ()
    ]


def _agent_connected(domain: libvirt.virDomain) -> bool:
    try:
        return has_agent(domain.XMLDesc(0))
    except libvirt.libvirtError:
        return False


def _useful(found: list[str]) -> tuple[str, ...]:
    """FOUND without repetitions and without addresses that nobody else can use."""
    parsed = dict.fromkeys(ipaddress.ip_address(address) for address in found)
    useful = [a for a in parsed if not (a.is_loopback or a.is_link_local)]
    return tuple(str(address) for address in sorted(useful, key=lambda a: a.version))


def _nudge(address: str) -> None:
    """Send ADDRESS a packet that means nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"", (address, _DISCARD_PORT))
