# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests are stopped, started, and waited for."""

from __future__ import annotations

from contextlib import ExitStack

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import domains, power
from pyguixvm.hypervisor.domains import Domain, Which
from pyguixvm.hypervisor.guest import kexec
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.actions import StopDomain
from pyguixvm.plan.readiness import Evidence, Readiness


def stop(name: str, domain: Which, action: StopDomain, workshop: Workshop) -> None:
    """Have the guest of NAME, whose domain is DOMAIN, shut down as ACTION allows.

    Raises RequestRefusedError if it does not and may not be powered off.
    """
    until = f"within {action.timeout:g} s{' (^C powers it off now)' if action.force else ''}"
    with phase(workshop.emit, "stop", name, until) as result:
        workshop.require(name)
        if action.fast and power.cut_off(workshop.connection, domain):
            result.detail = "powered off, its file systems frozen"
            return
        try:
            with workshop.interruption.skipped_on_request(agreed=action.force) as waiting:
                result.detail = power.shutdown(
                    workshop.connection,
                    domain,
                    timeout=action.timeout,
                    clock=workshop.clock,
                    skipped=lambda: waiting.skipped,
                )
        except power.WaitSkippedError:
            _power_off(name, domain, workshop)
            result.detail = "powered off, since it was not waited for"
        except RequestRefusedError as error:
            if not action.force:
                raise RequestRefusedError(
                    error.message,
                    hint=f"{error.hint}. 'pyguixvm deploy --force' powers it off instead.",
                ) from error
            _power_off(name, domain, workshop)
            result.detail = "powered off"


def _power_off(name: str, domain: Which, workshop: Workshop) -> None:
    workshop.require(name)
    domains.destroy(workshop.connection, domain)


def start(
    machine: VirtualMachine, domain: Domain | None, workshop: Workshop, watched: ExitStack
) -> Evidence:
    """Start MACHINE, whose networks are active; watch its guest until WATCHED is closed.

    DOMAIN is its own, if it was looked up already.
    """
    with phase(workshop.emit, "start", machine.name):
        workshop.require(machine.name)
        return watched.enter_context(boot(workshop.connection, machine, domain))


def boot_by_kexec(
    machine: VirtualMachine, action: StopDomain, workshop: Workshop, watched: ExitStack
) -> Evidence | None:
    """Have the guest of MACHINE boot what its kernel was given, and watch it, as by `start`.

    Return None if it does not, as far as is known, in the time that ACTION gives it to stop.
    """
    until = f"by kexec, within {action.timeout:g} s"
    with phase(workshop.emit, "reboot", machine.name, until) as result:
        workshop.require(machine.name)
        try:
            evidence = watched.enter_context(
                kexec.booted(
                    workshop.connection, machine, action.timeout, workshop.sleep, workshop.clock
                )
            )
        except HypervisorError as error:
            result.detail = f"not by kexec: {error.message}"
            return None
        result.detail = "by kexec"
        return evidence


def wait(
    machine: VirtualMachine, evidence: Evidence, deadline: float, workshop: Workshop
) -> Readiness:
    """Wait until MACHINE is ready, or until DEADLINE on the workshop's clock."""
    with phase(workshop.emit, "ready", machine.name) as result:
        readiness = wait_ready(
            machine,
            evidence,
            deadline=deadline,
            emit=workshop.emit,
            clock=workshop.clock,
            sleep=workshop.sleep,
        )
        result.detail = readiness.detail
    return readiness
