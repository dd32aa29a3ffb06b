# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests are stopped, started, and waited for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import domains, power
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.domains import Domain, Which
from pyguixvm.hypervisor.guest import kexec
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.hypervisor.guest.kexec import Listening
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.actions import StopDomain
from pyguixvm.plan.readiness import Evidence, Readiness


def stop(name: str, domain: Which, action: StopDomain, workshop: Workshop) -> None:
    """Have the guest of NAME, whose domain is DOMAIN, shut down as ACTION allows.

    Raises RequestRefusedError if it does not and may not be powered off.
    """
    with phase(workshop.emit, "stop", name, _until(action)) as result:
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
                    hint=f"{error.hint}. With --force, it is powered off instead.",
                ) from error
            _power_off(name, domain, workshop)
            result.detail = "powered off"


def _until(action: StopDomain, how: str = "") -> str:
    return f"{how}within {action.timeout:g} s{' (^C powers it off now)' if action.force else ''}"


def _power_off(name: str, domain: Which, workshop: Workshop) -> None:
    workshop.require(name)
    domains.destroy(workshop.connection, domain)


def start(
    machine: VirtualMachine,
    domain: Domain | None,
    workshop: Workshop,
    watched: ExitStack,
    at_last: Callable[[], object] = lambda: None,
) -> Evidence:
    """Start MACHINE, whose networks are active; watch its guest until WATCHED is closed.

    DOMAIN is its own, if it was looked up already.  AT_LAST is called just before it runs.
    """
    connection = workshop.connection
    with phase(workshop.emit, "start", machine.name):
        ours = begun(partial(workshop.require, machine.name), far=not connection.local)
        return watched.enter_context(boot(connection, machine, domain, first=ours, at_last=at_last))


@dataclass(frozen=True)
class Restart:
    """A guest is to boot what it was changed to: by kexec if its KERNEL_LOADED that, or by STOP."""

    stop: StopDomain
    kernel_loaded: bool


def restart(
    machine: VirtualMachine,
    domain: Domain,
    wanted: Restart,
    workshop: Workshop,
    watched: ExitStack,
) -> Evidence:
    """Have the guest of MACHINE boot by kexec, or else stop and start it; watch it as by `start`.

    Raises RequestRefusedError if it goes on as it was, which it may.
    """
    evidence: Evidence | None = None
    if wanted.kernel_loaded:
        evidence = _by_kexec(machine, domain, wanted.stop, workshop, watched)
    else:
        stop(machine.name, domain, wanted.stop, workshop)
    return evidence or start(machine, domain, workshop, watched)


def _by_kexec(
    machine: VirtualMachine,
    domain: Domain,
    action: StopDomain,
    workshop: Workshop,
    watched: ExitStack,
) -> Evidence | None:
    """Have the guest of MACHINE boot what its kernel was given, and watch it.

    Return None if it was stopped instead, in what is left of the time that ACTION gives it.
    """
    begun = workshop.clock()
    with ExitStack() as heard:
        listening: Listening | None = None
        with phase(workshop.emit, "reboot", machine.name, _until(action, "by kexec, ")) as result:
            workshop.require(machine.name)
            try:
                listening = heard.enter_context(kexec.listening(workshop.connection, machine))
                with workshop.interruption.skipped_on_request(agreed=action.force) as waiting:
                    listening.reboot.begin(
                        action.timeout, workshop.sleep, workshop.clock, lambda: waiting.skipped
                    )
            except power.WaitSkippedError:
                _power_off(machine.name, domain, workshop)
                result.detail = "powered off, since it was not waited for"
                return None
            except HypervisorError as error:
                result.detail = f"not by kexec: {error.message}"
            else:
                result.detail = "by kexec"
                return _followed(listening, heard, watched)
        left = max(1, round(action.timeout - (workshop.clock() - begun)))
        try:
            stop(machine.name, domain, msgspec.structs.replace(action, timeout=left), workshop)
        except RequestRefusedError:
            # It may have been about to boot when it was given up.
            if listening is None or not listening.reboot.is_over():
                raise
            return _followed(listening, heard, watched)
    return None


def _followed(listening: Listening, heard: ExitStack, watched: ExitStack) -> Evidence:
    """Watch the guest that LISTENING is about, until WATCHED is closed, and HEARD with it."""
    watched.push(heard.pop_all())
    return watched.enter_context(listening.followed())


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
