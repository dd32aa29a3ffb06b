# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen of a guest that boots: its addresses, agent, console and ports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from pyguixvm.errors import HypervisorError, PyguixvmError
from pyguixvm.hypervisor import console, dhcp, domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.console import ConsoleText
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.guest.addresses import AGENT, ARP, at_interfaces, useful
from pyguixvm.hypervisor.states import domain_state
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import State
from pyguixvm.xml.inspection import gives_leases

_CONNECT_SECONDS = 1.0
_DISCARD_PORT = 9


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
        if agent.connected(domain):
            found += at_interfaces(domain, AGENT, self._macs)
        found += self._new_neighbours(domain)
        return useful(found)

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
        return agent.connected(domain) and agent.ask(domain, "guest-ping", dict) is not None

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
        current = at_interfaces(domain, ARP, self._macs)
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


def _networks(machine: VirtualMachine) -> frozenset[str]:
    return frozenset(interface.network for interface in machine.domain.networking)


def _neighbours(connection: Connection, machine: VirtualMachine) -> frozenset[str]:
    with explained(f"look at domain '{machine.name}'"):
        domain = connection.handle.lookupByName(machine.name)
    return frozenset(at_interfaces(domain, ARP))


def _nudge(address: str) -> None:
    """Send ADDRESS a packet that means nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"", (address, _DISCARD_PORT))
