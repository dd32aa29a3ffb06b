# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots by kexec(8): its kernel starts the next one, and QEMU sees nothing of it.

Firmware, boot loader and what they read from its disk take no time, and its domain, its
volumes and its memory stay.  That it has booted shows by the boot_id of random(4), which its
agent reads, and by nothing else: an agent goes away and comes again for many a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import libvirt
import msgspec

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import console, dhcp, domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.console import ConsoleText
from pyguixvm.hypervisor.errors import is_code
from pyguixvm.hypervisor.guest import agent, boot_record
from pyguixvm.hypervisor.guest.addresses import ARP, at_interfaces
from pyguixvm.hypervisor.guest.content import content
from pyguixvm.hypervisor.guest.evidence import GuestEvidence, networks_of
from pyguixvm.hypervisor.happenings import happenings
from pyguixvm.hypervisor.power import Clock, Skipped, WaitSkippedError
from pyguixvm.hypervisor.time_limits import SilenceError
from pyguixvm.model.declaration import VirtualMachine

_SHELL = "/run/current-system/profile/bin/sh"
# The Shepherd has had this since its version 1.0; it says nothing is wrong if nothing was loaded.
_SCRIPT = """
read -r loaded < /sys/kernel/kexec_loaded && [ "$loaded" = 1 ] || exit 69
exec /run/current-system/profile/sbin/reboot --kexec
"""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_UUID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\n?")
_PAUSE = 0.1


class _Started(msgspec.Struct, frozen=True):
    pid: int


class _Status(msgspec.Struct, frozen=True):
    exited: bool
    exitcode: int | None = None


@dataclass(frozen=True)
class Reboot:
    """The guest of DOMAIN, whose agent named BOOT, is to boot once more, by kexec."""

    domain: libvirt.virDomain
    boot: str

    def begin(
        self,
        timeout: float,
        sleep: Callable[[float], None],
        clock: Clock,
        skipped: Skipped = lambda: False,
    ) -> None:
        """Have its agent begin that, and return as soon as its services, the agent too, stopped.

        Raises HypervisorError if that is not so after TIMEOUT seconds, and if its agent, which is
        told to, says that it will not; WaitSkippedError as soon as the wait is SKIPPED.
        """
        try:
            self._begin(clock() + timeout, sleep, clock, skipped)
        except HypervisorError:
            # It may have been slow to say so, or what it said was lost.
            if not self.is_over():
                raise

    def is_over(self) -> bool:
        """Whether the guest has booted once more.  While nobody knows, it has not."""
        with suppress(SilenceError):
            now = boot_of(self.domain)
            return now is not None and now != self.boot
        return False

    def _begin(
        self, deadline: float, sleep: Callable[[float], None], clock: Clock, skipped: Skipped
    ) -> None:
        begun = agent.ask(
            self.domain,
            "guest-exec",
            _Started,
            agent.PATIENCE,
            path=_SHELL,
            arg=["-c", _SCRIPT],
        )
        if begun is None:
            raise HypervisorError("its agent does not take that")
        while not self._agent_has_stopped():
            status = self._status(begun.pid)
            if status is None and self.is_over():
                return
            if status is not None and status.exited and status.exitcode != 0:
                raise HypervisorError("its system cannot, or nothing was loaded")
            if skipped():
                raise WaitSkippedError("its guest stops its services still, and is not waited for")
            if clock() >= deadline:
                raise HypervisorError("its services have not stopped in time")
            sleep(_PAUSE)

    def _agent_has_stopped(self) -> bool:
        """Whether libvirt knows that the agent, a service, is gone; what fails tells nothing."""
        try:
            return not agent.listens(self.domain)
        except SilenceError:
            return False
        except libvirt.libvirtError as error:
            return is_code(error, libvirt.VIR_ERR_NO_DOMAIN)

    def _status(self, pid: int) -> _Status | None:
        with suppress(SilenceError):
            return agent.ask(self.domain, "guest-exec-status", _Status, pid=pid)
        return None


def boot_of(domain: libvirt.virDomain, seconds: int = agent.SECONDS) -> str | None:
    """Return which boot the agent of DOMAIN says that its guest runs since, None if it does not.

    Each of its answers has SECONDS.  Raises SilenceError.
    """
    if not agent.connected(domain, seconds):
        return None
    found = _UUID.fullmatch(content(domain, _BOOT_ID, seconds) or "")
    return found[1] if found else None


@dataclass(frozen=True)
class Listening:
    """The guest of MACHINE, which is to REBOOT, and what was known of it before."""

    connection: Connection
    machine: VirtualMachine
    reboot: Reboot
    networks: tuple[libvirt.virNetwork, ...]
    leases: dict[dhcp.Lease, int]
    neighbours: frozenset[str]
    text: ConsoleText

    @contextmanager
    def followed(self) -> Iterator[GuestEvidence]:
        """Watch the guest, whose services have stopped, or which boots already."""
        domain = self.reboot.domain
        if not self.reboot.is_over():
            # Nothing of the next boot has been written before the services have stopped.
            self.text.forget()
        # Whoever listens leaves what it boots now; the one before is not to be taken for that.
        boot_record.forget(domain)
        dhcp.remember(domain, self.machine, self.leases)
        with ExitStack() as watched:
            watched.callback(boot_record.remember, domain, self.text.lines)
            happened = watched.enter_context(happenings(self.connection, domain))
            yield GuestEvidence(
                self.connection,
                self.machine,
                domain,
                happened=happened,
                networks=self.networks,
                text=self.text,
                leases=self.leases,
                neighbours=self.neighbours,
                begun=self.reboot.is_over,
            )


@contextmanager
def listening(connection: Connection, machine: VirtualMachine) -> Iterator[Listening]:
    """Listen to the guest of MACHINE, which is to boot by kexec, and know it before that.

    Raises HypervisorError if its agent does not say which boot this is: nobody could tell then
    that it was another one.
    """
    domain = domains.ours(connection, machine.name)
    boot = boot_of(domain.handle, agent.PATIENCE)
    if boot is None:
        raise HypervisorError("no agent that says which boot it runs since")
    networks = networks_of(connection, machine)
    leases = dhcp.leases_of(networks)
    neighbours = frozenset(at_interfaces(domain.handle, ARP))
    with ExitStack() as watched:
        text = ConsoleText()
        # Somebody else may be listening.
        with suppress(HypervisorError):
            text = watched.enter_context(console.record(connection, domain))
        reboot = Reboot(domain.handle, boot)
        yield Listening(connection, machine, reboot, networks, leases, neighbours, text)
