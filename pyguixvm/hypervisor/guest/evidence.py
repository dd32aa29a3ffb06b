# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen of a guest that boots: its addresses, agent, console and ports."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TypeVar, cast

import libvirt

from pyguixvm.errors import HypervisorError, PyguixvmError
from pyguixvm.hypervisor import console, dhcp, domains
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.console import ConsoleText
from pyguixvm.hypervisor.domains import Domain, Which
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.guest import agent, boot_record
from pyguixvm.hypervisor.guest.addresses import AGENT, ARP, at_interfaces, useful
from pyguixvm.hypervisor.happenings import begin_happenings, happenings
from pyguixvm.hypervisor.states import domain_state
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import State
from pyguixvm.xml.inspection import gives_leases
from pyguixvm.xml.text import parse

_CONNECT_SECONDS = 1.0
_DISCARD_PORT = 9
# How often (seconds) to look for an address, and for what libvirt tells by events.
_ADDRESS_SECONDS = 1.0
_LOOK_SECONDS = 5.0

_Known = TypeVar("_Known")


class GuestEvidence:
    """Evidence about the guest of one domain, none of it older than its start.

    LEASES (expiry by MAC and IP address) and NEIGHBOURS (IP addresses) are
    what was known before the start.  BEGUN tells whether that has happened; by default it has.
    """

    def __init__(
        self,
        connection: Connection,
        machine: VirtualMachine,
        domain: libvirt.virDomain,
        *,
        happened: threading.Event,
        networks: tuple[libvirt.virNetwork, ...],
        text: ConsoleText,
        leases: dict[dhcp.Lease, int],
        neighbours: frozenset[str],
        begun: Callable[[], bool] = lambda: True,
    ) -> None:
        """Remember what was there; nothing is asked yet.

        HAPPENED is set when something happens to DOMAIN, which is connected to NETWORKS.
        """
        self._connection = connection
        self._machine = machine
        self._domain = domain
        self._happened = happened
        self._networks = networks
        # What was asked last, and when (seconds on the monotonic clock).
        self._known: dict[str, tuple[float, object]] = {}
        self._text = text
        self._old_leases = leases
        self._old_neighbours = neighbours
        self._looks_begun = begun
        self._begun = False
        self._macs = frozenset(i.mac_address.lower() for i in machine.domain.networking)

    def begun(self) -> bool:
        """Whether the guest has begun: what is seen until then is of the one before."""
        if not self._begun:
            self._begun = self._asked("begun", _ADDRESS_SECONDS, self._looks_begun)
        return self._begun

    def state(self) -> State:
        """Return the domain's state; one that vanished is shut off."""
        return self._asked("state", _LOOK_SECONDS, self._state)

    def _state(self) -> State:
        with explained(f"read the state of domain '{self._machine.name}'"):
            try:
                return domain_state(self._domain)
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                    return "shut off"
                raise

    def _asked(self, what: str, seconds: float, ask: Callable[[], _Known]) -> _Known:
        """Return what ASK returns for WHAT: anew if something happened, or after SECONDS."""
        if self._happened.is_set():
            self._happened.clear()
            self._known.clear()
        when, known = self._known.get(what, (-math.inf, None))
        if time.monotonic() - when < seconds:
            return cast("_Known", known)
        found = ask()
        self._known[what] = (time.monotonic(), found)
        return found

    def addresses(self) -> tuple[str, ...]:
        """Return the guest's addresses at the declared interfaces, IPv4 first."""
        return self._asked("addresses", _ADDRESS_SECONDS, self._addresses)

    def _addresses(self) -> tuple[str, ...]:
        found = [
            address
            for (mac, address), expiry in dhcp.leases_of(self._networks).items()
            if mac in self._macs and expiry > self._old_leases.get((mac, address), -1)
        ]
        if self._has_agent():
            found += at_interfaces(self._domain, AGENT, self._macs)
        found += self._asked("neighbours", 2 * _ADDRESS_SECONDS, self._new_neighbours)
        return useful(found)

    def _has_agent(self) -> bool:
        return self._asked("agent", _LOOK_SECONDS, lambda: agent.connected(self._domain))

    def sees_addresses(self) -> bool:
        """Whether an address would be seen even of a guest without agent."""
        with suppress(libvirt.libvirtError):
            return any(gives_leases(network.XMLDesc(0)) for network in self._networks)
        return False

    def had_lease(self) -> bool:
        """Whether an interface of the guest had a lease before it started."""
        return any(mac in self._macs for mac, _ in self._old_leases)

    def agent_answers(self) -> bool:
        """Whether the QEMU guest agent answers a ping."""
        return self._asked("ping", _ADDRESS_SECONDS, self._pings)

    def _pings(self) -> bool:
        return self._has_agent() and agent.ask(self._domain, "guest-ping", dict) is not None

    def console_lines(self) -> tuple[str, ...]:
        """Return what the guest wrote to its serial console since it was watched."""
        return self._text.lines()

    def heard_all(self) -> bool:
        """Whether the line was there all the while: what is written meanwhile is lost."""
        return not self._text.interrupted

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

    def _new_neighbours(self) -> list[str]:
        """Return addresses from the host's ARP table that the guest has answered for since.

        The kernel keeps entries of guests that are gone.  A packet makes it
        ask again; only while it waits for the answer it shows none.
        """
        current = at_interfaces(self._domain, ARP, self._macs)
        self._old_neighbours &= frozenset(current)
        if self._connection.local:
            for address in self._old_neighbours:
                _nudge(address)
        return [address for address in current if address not in self._old_neighbours]


@contextmanager
def boot(
    connection: Connection,
    machine: VirtualMachine,
    domain: Domain | None = None,
    start_paused: Callable[[Connection, str], None] | None = None,
    *,
    first: Callable[[], object] = lambda: None,
    at_last: Callable[[], object] = lambda: None,
) -> Iterator[GuestEvidence]:
    """Start MACHINE's domain, and watch its guest from its first instruction on.

    DOMAIN is that, if it was looked up already.  START_PAUSED starts it, where it is not
    defined.  FIRST is called just before, and AT_LAST just before that instruction.
    """
    name, far = machine.name, not connection.local
    networks = networks_of(connection, machine)
    known = begun(partial(dhcp.leases_of, networks), far=far)
    begin_happenings(connection)
    which: Which = name if start_paused else domain or domains.ours(connection, name)
    with ExitStack() as watched:
        with _never_left_paused(connection, which):
            leases = known()
            first()
            if start_paused is None:
                domains.start_paused(connection, which)
            else:
                start_paused(connection, name)
                which = domains.ours(connection, name)
            handle = domains.our_domain(connection, which)
            remembered = begun(partial(dhcp.remember, handle, machine, leases), far=far)
            # libvirt matches ARP entries with an active domain's interfaces only.
            answered = begun(partial(at_interfaces, handle, ARP), far=far)
            text = watched.enter_context(console.record(connection, which))
            happened = watched.enter_context(happenings(connection, handle))
            remembered()
            neighbours = frozenset(answered())
            at_last()
            domains.resume(connection, which)
        watched.callback(boot_record.remember, handle, text.lines)
        yield GuestEvidence(
            connection,
            machine,
            handle,
            happened=happened,
            networks=networks,
            text=text,
            leases=leases,
            neighbours=neighbours,
        )


@contextmanager
def _never_left_paused(connection: Connection, domain: Which) -> Iterator[None]:
    """Power DOMAIN off again if the body fails, or is interrupted, while it is paused.

    A paused domain counts as paused by a person, and would be left alone for
    ever; one that was active before is left as it was.
    """
    there = isinstance(domain, Domain) or domains.exists(connection, domain)
    was_active = there and domains.state(connection, domain) != "shut off"
    try:
        yield
    except BaseException:
        if not was_active:
            with suppress(PyguixvmError):
                if domains.state(connection, domain) == "paused":
                    domains.destroy(connection, domain)
        raise


@contextmanager
def watch(connection: Connection, machine: VirtualMachine) -> Iterator[GuestEvidence]:
    """Watch the guest of MACHINE's domain, which runs already.

    Leases count that are newer than its start; each newest one where that is not known.
    """
    networks = networks_of(connection, machine)
    leases = dhcp.leases_of(networks)
    domain = domains.ours(connection, machine.name)
    with explained(f"look at domain '{machine.name}'"):
        live = parse(domain.handle.XMLDesc(0))
    outdated = dhcp.outdated(leases, dhcp.remembered(live))
    # Of addresses of before, the host may know the way to nobody.
    neighbours = frozenset(address for _, address in outdated)
    with ExitStack() as watched:
        text = ConsoleText()
        # What it said is gone anyway; somebody else may be listening.
        with suppress(HypervisorError):
            text = watched.enter_context(console.record(connection, domain))
        watched.callback(boot_record.remember, domain.handle, text.lines)
        happened = watched.enter_context(happenings(connection, domain.handle))
        yield GuestEvidence(
            connection,
            machine,
            domain.handle,
            happened=happened,
            networks=networks,
            text=text,
            leases=outdated,
            neighbours=neighbours,
        )


def networks_of(connection: Connection, machine: VirtualMachine) -> tuple[libvirt.virNetwork, ...]:
    """Return the networks of MACHINE that there are; for this package only."""
    names = frozenset(interface.network for interface in machine.domain.networking)
    return dhcp.find_networks(connection, names)


def _nudge(address: str) -> None:
    """Send ADDRESS a packet that means nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"", (address, _DISCARD_PORT))
