# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots by kexec(8): its kernel starts the next one, and QEMU sees nothing of it.

Firmware, boot loader and what they read from its disk take no time, and its domain, its
volumes and its memory stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import libvirt
import msgspec

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import console, dhcp, domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.console import ConsoleText
from pyguixvm.hypervisor.guest import agent, boot_record
from pyguixvm.hypervisor.guest.addresses import ARP, at_interfaces
from pyguixvm.hypervisor.guest.evidence import GuestEvidence, networks_of
from pyguixvm.hypervisor.happenings import happenings
from pyguixvm.model.declaration import VirtualMachine

_SHELL = "/run/current-system/profile/bin/sh"
# The Shepherd has had this since its version 1.0; it says nothing is wrong if nothing was loaded.
_SCRIPT = """
read -r loaded < /sys/kernel/kexec_loaded && [ "$loaded" = 1 ] || exit 69
exec /run/current-system/profile/sbin/reboot --kexec
"""
_PAUSE = 0.1


class _Started(msgspec.Struct, frozen=True):
    pid: int


class _Status(msgspec.Struct, frozen=True):
    exited: bool
    exitcode: int | None = None


@contextmanager
def booted(
    connection: Connection,
    machine: VirtualMachine,
    seconds: float,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Iterator[GuestEvidence]:
    """Have the guest of MACHINE boot what its kernel was given; watch it from then on.

    Raises HypervisorError if it has not begun within SECONDS, and if its agent, which is told
    to, says that it will not.
    """
    networks = networks_of(connection, machine)
    domain = domains.ours(connection, machine.name)
    handle = domain.handle
    with ExitStack() as watched:
        leases = dhcp.leases_of(networks)
        text = ConsoleText()
        # Somebody else may be listening.
        with suppress(HypervisorError):
            text = watched.enter_context(console.record(connection, domain))
        neighbours = frozenset(at_interfaces(handle, ARP))
        _begin(handle, clock() + seconds, sleep, clock)
        # Nothing of the next boot has been written before the services have stopped.
        text.forget()
        dhcp.remember(handle, machine, leases)
        watched.callback(boot_record.remember, handle, text.lines)
        happened = watched.enter_context(happenings(connection, handle))
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


def _begin(
    domain: libvirt.virDomain,
    deadline: float,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    """Have the agent of DOMAIN begin that, and return as soon as it is gone.

    It is a service: it stops before the kernel is left.  Raises HypervisorError as `booted`.
    """
    if not agent.connected(domain):
        raise HypervisorError("no agent is connected")
    arguments = ["-c", _SCRIPT]
    begun = agent.ask(domain, "guest-exec", _Started, agent.PATIENCE, path=_SHELL, arg=arguments)
    if begun is None:
        raise HypervisorError("its agent does not take that")
    while agent.connected(domain):
        status = agent.ask(domain, "guest-exec-status", _Status, pid=begun.pid)
        if status is not None and status.exited and status.exitcode != 0:
            raise HypervisorError("its system cannot, or nothing was loaded")
        if clock() >= deadline:
            raise HypervisorError("its services have not stopped in time")
        sleep(_PAUSE)
